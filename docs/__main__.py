"""Write the reference."""

from docs.reference import PATH, reference

if __name__ == "__main__":
    PATH.write_text(reference(), encoding="utf-8")
