"""The model that training starts from: found, whole, and with a chat template."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.learning.training.errors import BaseNotFound, MethodUnavailable, NoChatTemplate
from router.learning.training.recipe import Method

if TYPE_CHECKING:
    import torch

_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "README.md")
_LICENCE = re.compile(r"^license:\s*(\S+)\s*$", re.MULTILINE)
_HEAD_CHARS = 4000
#: Tokenisers that don't know a limit say a number like this.
_NO_LIMIT = 10**9


@dataclass(frozen=True)
class Base:
    """A base model on this machine.

    Attributes:
        name: as it was asked for, and as adapters will name it: a directory, or the hub's name.
        path: where its files are.
        tokenizer: its own, with a chat template.
        config: its own.
        parameters: all weights.
    """

    name: str
    path: Path
    tokenizer: Any
    config: Any
    parameters: int

    @cached_property
    def context_tokens(self) -> int:
        """The longest call it takes, prompt and answer."""
        limits = [getattr(self.config.get_text_config(), "max_position_embeddings", None)]
        limits.append(self.tokenizer.model_max_length)
        return min((limit for limit in limits if limit and limit < _NO_LIMIT), default=_NO_LIMIT)

    @cached_property
    def licence(self) -> str | None:
        """As its model card has it; None where it has none."""
        try:
            head = (self.path / "README.md").read_text(encoding="utf-8")[:_HEAD_CHARS]
        except (OSError, UnicodeDecodeError):
            return None
        found = _LICENCE.search(head)
        return found[1] if found else None

    @cached_property
    def stops(self) -> frozenset[int]:
        """Tokens at which a server takes its answer for whole."""
        stops = {self.tokenizer.eos_token_id}
        try:
            also = json.loads((self.path / "generation_config.json").read_text()).get("eos_token_id")
        except (OSError, ValueError, AttributeError):
            also = None
        stops.update(also if isinstance(also, list) else [also])
        return frozenset(stop for stop in stops if isinstance(stop, int))

    def model(self, method: Method) -> Any:
        """Its weights, ready for training; on a GPU where there is one.

        Raises:
            MethodUnavailable: four bits need bitsandbytes.
        """
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import is_flash_attn_2_available

        kept: dict[str, Any] = {"dtype": torch.float32 if method is Method.FULL else compute_dtype()}
        if torch.cuda.is_available() and is_flash_attn_2_available():
            kept["attn_implementation"] = "flash_attention_2"
        if method is Method.QLORA:
            kept["quantization_config"] = _four_bits()
        return AutoModelForCausalLM.from_pretrained(self.path, local_files_only=True, **kept)


def open_base(name: str) -> Base:
    """Find a base model, in a directory or by its name on the hub. Weights are only read from safetensors files.

    Raises:
        BaseNotFound: there is no such directory, and the hub has no such model or can't be reached.
        NoChatTemplate: a base without one would be asked otherwise than it is trained.
    """
    from transformers import AutoConfig, AutoTokenizer

    path = _located(name)
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        parameters = _parameters(path)
    except (OSError, ValueError, KeyError) as error:
        raise BaseNotFound(f"the base model {name} can't be read: {_first_line(error)}") from error
    if not parameters:
        raise BaseNotFound(f"the base model {name} has no weights in safetensors files in {path}")
    if not tokenizer.chat_template:
        raise NoChatTemplate(
            f"the base model {name} has no chat template; take an instruction-tuned one, or put a chat_template.jinja "
            "beside its tokeniser, here and on the SLM server"
        )
    if tokenizer.eos_token_id is None:
        raise NoChatTemplate(f"the tokeniser of the base model {name} names no token that ends an answer (eos_token)")
    return Base(str(Path(name).absolute()) if Path(name).is_dir() else name, path, tokenizer, config, parameters)


def require(method: Method) -> None:
    """See that this machine can train by a method.

    Raises:
        MethodUnavailable
    """
    import torch

    if torch.cuda.device_count() > 1:
        raise MethodUnavailable("training uses one GPU; let it see one only, by CUDA_VISIBLE_DEVICES=0")
    if method is Method.QLORA:
        _four_bits()


def compute_dtype() -> torch.dtype:
    """What training computes in: bfloat16 on a GPU, and float32 on a CPU, where less is not faster."""
    import torch

    return torch.bfloat16 if torch.cuda.is_available() else torch.float32


def _located(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        return path.resolve()
    if path.is_absolute() or name.count("/") != 1:
        raise BaseNotFound(f"there is no base model in {name}: no such directory on this machine")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise BaseNotFound(
            f"the base model {name} is not on this machine and the model hub does not give it: {_first_line(error)}"
        ) from error


def _parameters(path: Path) -> int:
    """How many weights the files hold; their heads say it."""
    total = 0
    for file in path.glob("*.safetensors"):
        with file.open("rb") as opened:
            head = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        for name, tensor in head.items():
            if name != "__metadata__":
                count = 1
                for size in tensor["shape"]:
                    count *= size
                total += count
    return total


def _four_bits() -> Any:
    """How QLoRA keeps a base.

    Raises:
        MethodUnavailable
    """
    import importlib.util

    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MethodUnavailable("qlora needs bitsandbytes (pip install bitsandbytes); lora does not")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype(),
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
