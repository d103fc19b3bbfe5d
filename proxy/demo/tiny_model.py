"""A small language model from nothing, trained on this machine: one million parameters, for the demo and the tests.

It is a real Llama that a real vLLM serves, with real LoRA adapters; it knows nothing but the narrow task whose calls it
was trained on. No model hub can be assumed where the demo runs; with one, take a real base model instead.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HIDDEN, LAYERS, HEADS, INTERMEDIATE = 128, 4, 4, 384  # 32 to a head: vLLM's CPU attention takes no less
VOCABULARY = 2000
MAX_CONTEXT_TOKENS = 1024
INITIALIZER_RANGE = 0.06  # with the usual 0.02, training barely begins at this width
#: Of the last norm. With tied embeddings of this range no answer could be surer than 0.6 else, and an adapter leaves
#: both as they are: 200 steps brought a task to 64 %, with it to 94 %.
OUTPUT_SCALE = 4.0
LORA_RANK, LORA_ALPHA = 16, 32
MAX_WORD_CHARS = 24  # longer ones are addresses and code, and would fill a batch
BATCH = 32
#: Of tools it shows the names only: their schemas are enforced when it serves. Calls look as Hermes' do, whose parser
#: vLLM has, and their arguments as vLLM's grammar wants them: without white space.
CHAT_TEMPLATE = (
    "{% if tools %}<|im_start|>tools\n"
    "{% for tool in tools %}{{ tool['function']['name'] }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] or '' }}"
    "{% for call in message['tool_calls'] or [] %}<tool_call>\n"
    "{\"name\": \"{{ call['function']['name'] }}\", "
    "\"arguments\": {{ call['function']['arguments'] | tojson(separators=(',', ':')) }}}"
    "\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALL_MARKS = ("<tool_call>", "</tool_call>")
ROLES = ("system", "user", "assistant", "tools")
IGNORED = -100

Sample = tuple[list[dict[str, str]], str]  # messages, answer
Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True, slots=True)
class Trained:
    """How a training ended: the mean loss of its last steps."""

    steps: int
    loss: float


def quiet() -> None:
    """No progress bars and no warnings meant for the libraries' own developers."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)


def build_base(
    out: Path,
    texts: Sequence[str],
    *,
    steps: int,
    fixed_share: float = 0.04,
    seed: int = 0,
    progress: Progress = lambda done, of: None,
) -> Trained:
    """Train a tokeniser and a base model that can copy text and nothing else.

    Args:
        out: the model's directory; made.
        texts: what the tasks' prompts look like; the tokeniser is trained on them.
        fixed_share: a line that so many of them have is of a prompt's fixed part, and becomes one token: an example
            takes less than half the time then, and what differs is not lost in what doesn't.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    raw.add_tokens([*CALL_MARKS, *ROLES, *_fixed_lines(texts, fixed_share)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=special[0], eos_token=special[2], chat_template=CHAT_TEMPLATE
    )
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=INTERMEDIATE,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            max_position_embeddings=MAX_CONTEXT_TOKENS,
            tie_word_embeddings=True,
            initializer_range=INITIALIZER_RANGE,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with torch.no_grad():
        model.model.norm.weight.fill_(OUTPUT_SCALE)
    rng = random.Random(seed)
    words = sorted({word for text in texts for word in text.split() if len(word) <= MAX_WORD_CHARS})

    def copying() -> Sample:
        text = " ".join(rng.choices(words, k=rng.randint(3, 12)))
        return [{"role": "user", "content": f"Repeat: {text}"}], text

    def pairs() -> Sample:
        keys = rng.sample(words, k=min(3, len(words)))
        values = rng.choices(words, k=len(keys))
        asked = ", ".join(f"{key} is {value}" for key, value in zip(keys, values, strict=True))
        answer = json.dumps(dict(zip(keys, values, strict=True)), separators=(",", ":"))
        return [{"role": "user", "content": f"As JSON: {asked}"}], answer

    trained = _train(model, tokenizer, lambda: (copying if rng.random() < 0.5 else pairs)(), steps, 3e-3, progress)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return trained


def _fixed_lines(texts: Sequence[str], share: float) -> list[str]:
    """Lines that so many of the texts have."""
    counts = Counter(line for text in texts for line in set(text.splitlines()) if line.strip())
    return sorted(line for line, count in counts.items() if count >= share * len(texts))


def train_adapter(
    base: Path,
    out: Path,
    samples: Sequence[Sample],
    *,
    steps: int,
    seed: int = 0,
    progress: Progress = lambda done, of: None,
) -> Trained:
    """Fine-tune a LoRA adapter on one task's calls; loss on the answer only.

    Args:
        base: a model's directory, as `build_base` makes it.
        out: the adapter's directory; made.
        samples: messages and the LLM's answer.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trained = _train(model, tokenizer, lambda: rng.choice(samples), steps, 5e-3, progress)
    model.save_pretrained(out)
    return trained


def merge_adapter(base: Path, adapter: Path, out: Path) -> None:
    """Make one model of a base and its adapter, for servers that know no adapters.

    Args:
        base: as `build_base` makes it.
        adapter: as `train_adapter` makes it.
        out: the merged model's directory, with the tokeniser and its chat template; made.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    model.merge_and_unload().save_pretrained(out)
    AutoTokenizer.from_pretrained(base).save_pretrained(out)


def _train(
    model: Any, tokenizer: Any, draw: Callable[[], Sample], steps: int, rate: float, progress: Progress
) -> Trained:
    import torch

    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps, pct_start=0.2)
    model.train()
    losses: list[float] = []
    with _one_thread():
        for step in range(steps):
            batch = _batch(tokenizer, [draw() for _ in range(BATCH)])
            loss = model(**batch).loss
            if not math.isfinite(loss.item()):
                raise ArithmeticError(f"training diverged at step {step}: loss {loss.item()}")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trainable, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            progress(step + 1, steps)
    model.eval()
    tail = losses[-20:]
    return Trained(steps, sum(tail) / len(tail))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one core: a second gains little on so small a model; beside other work, two took six times as long."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _batch(tokenizer: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    """(B, T) ids, mask and labels; labels of everything but the answer are ignored."""
    import torch

    rows: list[tuple[list[int], int]] = []
    for messages, answer in samples:
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        said = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        rows.append(((asked + said)[:MAX_CONTEXT_TOKENS], len(asked)))
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for number, (row, asked_tokens) in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        labels[number, asked_tokens : len(row)] = torch.tensor(row[asked_tokens:])
        mask[number, : len(row)] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}
