"""The catalogue names only what this vLLM has: parsers of tool calls."""

from __future__ import annotations

import ast

import pytest

from router.learning.selection.catalogue import load_catalogue
from tests.vllm.conftest import VENV

pytestmark = pytest.mark.vllm


def test_every_parser_of_the_catalogue_is_registered() -> None:
    if not (VENV / ".ready").exists():
        pytest.skip("vLLM's CPU build is not installed: `make setup` says why")
    [register] = VENV.glob("lib/python3*/site-packages/vllm/tool_parsers/__init__.py")
    [registered] = [
        node.value
        for node in ast.parse(register.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_TOOL_PARSERS_TO_REGISTER"
    ]
    named = {model.tool_call_parser for model in load_catalogue() if model.tools}
    assert named <= set(ast.literal_eval(registered))
