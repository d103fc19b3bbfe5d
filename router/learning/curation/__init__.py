"""From logged calls of one cluster to training samples: clean, safe, each said once, and with some kept for the proof.

    curate.py           the way through, and which calls are left out where
    division.py         which calls are used for what
    drops.py            the reasons
    samples.py          what goes in and comes out; the rules
    weighed.py          how sure the LLM was of each token, where the log says it
    schema_versions.py  calls made with tools or schemas that have been replaced
    splits.py           train, calibration, certification: by conversation and time
    chat.py             a call as a conversation in OpenAI's fine-tuning form
    masking.py          the same without personal data and secrets, if its answer can still be learned
    placeholders.py     one name for one value inside a call
    reading.py          what is to be masked in a text, also inside JSON
    findings.py         the seam for recognisers:
      credentials.py    keys, tokens, passwords (detect-secrets)
      identifiers.py    accounts, documents, devices (Presidio's patterns and checksums)
      phones.py         numbering plans (libphonenumber)
      people.py         introduced names, dates of a life
      addresses.py      streets, post boxes
      names.py          all other names: a model, if there is one
      context.py        the words around a number
    duplicates.py       exact and near ones (datasketch)

No input or output. Nothing is fetched, nothing is sent: recognisers are patterns unless a model is plugged in.
"""
