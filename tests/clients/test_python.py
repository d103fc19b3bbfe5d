"""The official Python client, pointed at the proxy by `base_url` alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from proxy.replay.upstream import ReplayUpstream
from tests.conftest import Proxy, wait_for

HELLO: Any = [{"role": "user", "content": "Hello, wörld 🌍"}]
ECHO = "You said: Hello, wörld 🌍"
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "Weather in a city", "parameters": WEATHER},
    }
]
FLAT_TOOLS: Any = [
    {
        "type": "function",
        "name": "get_weather",
        "description": "Weather in a city",
        "parameters": WEATHER,
        "strict": True,
    }
]


class City(BaseModel):
    name: str
    country: str
    population: int


@pytest.fixture
def client(proxy: Proxy) -> Iterator[OpenAI]:
    with OpenAI(base_url=proxy.base_url, api_key="sk-client", max_retries=0, timeout=20) as made:
        yield made


def test_chat(client: OpenAI, provider: ReplayUpstream) -> None:
    answer = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
    assert answer.parse().choices[0].message.content == ECHO
    assert answer.headers["x-request-id"] == "req_replay"
    assert answer.headers["x-understudy-served-by"] == "llm"
    assert answer.headers["x-understudy-call-id"]
    assert {name.lower(): v for name, v in provider.last["headers"].items()}["authorization"] == "Bearer sk-client"


def test_chat_streamed(client: OpenAI) -> None:
    with client.chat.completions.create(
        model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ECHO
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


async def test_chat_with_the_asynchronous_client(proxy: Proxy) -> None:
    async with AsyncOpenAI(base_url=proxy.base_url, api_key="sk-client", max_retries=0) as client:
        plain = await client.chat.completions.create(model="gpt-4o", messages=HELLO)
        stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
        spelled = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert plain.choices[0].message.content == spelled == ECHO


def test_parallel_tool_calls(client: OpenAI) -> None:
    request: Any = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Weather in Oslo and Rome?"}],
        "tools": TOOLS,
    }
    plain = client.chat.completions.create(**request)
    assert [c.function.name for c in plain.choices[0].message.tool_calls or []] == ["get_weather"] * 2
    with client.chat.completions.stream(**request) as stream:
        streamed = stream.get_final_completion()
    for answer in (plain, streamed):
        calls = answer.choices[0].message.tool_calls or []
        assert [(c.id, json.loads(c.function.arguments)) for c in calls] == [
            ("call_oslo", {"city": "Oslo"}),
            ("call_rome", {"city": "Rome"}),
        ]
        assert answer.choices[0].finish_reason == "tool_calls"


def test_structured_output(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model="gpt-4o", messages=HELLO, response_format=City)
    assert answer.choices[0].message.parsed == City(name="Oslo", country="Norway", population=709037)
    with client.chat.completions.stream(model="gpt-4o", messages=HELLO, response_format=City) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == answer.choices[0].message.parsed


def test_responses(client: OpenAI) -> None:
    assert client.responses.create(model="gpt-4o", input="Say hello.").output_text == "Hello, world!"
    with client.responses.stream(model="gpt-4o", input="Say hello.") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == "Hello, world!"
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert "response.output_text.delta" in kinds


def test_responses_with_tools(client: OpenAI) -> None:
    request: Any = {"model": "gpt-4o", "input": "Weather in Oslo?", "tools": FLAT_TOOLS}
    plain = client.responses.create(**request)
    with client.responses.stream(**request) as stream:
        streamed = stream.get_final_response()
    for answer in (plain, streamed):
        [call] = answer.output
        assert (call.type, call.call_id, call.arguments) == ("function_call", "call_oslo", '{"city":"Oslo"}')


def test_embeddings(client: OpenAI) -> None:
    answer = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [row.index for row in answer.data] == [0, 1]
    assert answer.data[0].embedding != answer.data[1].embedding


def test_models(client: OpenAI) -> None:
    assert "gpt-4o" in [model.id for model in client.models.list()]


def test_a_file_comes_back_as_it_went(client: OpenAI) -> None:
    content = bytes(range(256)) * 4096
    uploaded = client.files.create(file=("data ä.bin", content), purpose="user_data")
    assert (uploaded.bytes, uploaded.filename) == (len(content), "data ä.bin")
    assert client.files.content(uploaded.id).read() == content


def test_speech_is_binary(client: OpenAI) -> None:
    spoken = client.audio.speech.create(model="tts-1", voice="alloy", input="Hello").read()
    assert spoken[:256] == bytes(range(256))


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ("error-401", openai.AuthenticationError),
        ("error-429", openai.RateLimitError),
        ("error-500", openai.InternalServerError),
        ("error-503", openai.InternalServerError),
        ("reset", openai.InternalServerError),  # our 502
    ],
)
def test_errors_are_raised_as_without_a_proxy(client: OpenAI, fault: str, raised: type[openai.APIStatusError]) -> None:
    with pytest.raises(raised) as caught:
        client.chat.completions.create(model="gpt-4o", messages=HELLO, extra_headers={"x-replay-fault": fault})
    if fault in ("error-429", "error-503"):
        assert caught.value.response.headers["retry-after"] == "1"
    if fault == "reset":
        assert (caught.value.status_code, caught.value.code) == (502, "upstream_cut")


def test_a_cut_stream_raises_instead_of_ending(client: OpenAI) -> None:
    with (
        client.chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, extra_headers={"x-replay-fault": "cut"}
        ) as stream,
        # Cut within an event, the client meets the unfinished JSON before the event that holds our error.
        pytest.raises((openai.APIError, json.JSONDecodeError)),
    ):
        list(stream)


def test_a_clients_timeout_cancels_the_llm(client: OpenAI, provider: ReplayUpstream) -> None:
    cancelled = provider.stats["cancelled"]
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(
            model="gpt-4o", messages=HELLO, timeout=0.5, extra_headers={"x-replay-fault": "stall"}
        )
    wait_for(lambda: provider.stats["cancelled"] == cancelled + 1)


def test_a_client_retries_as_often_as_without_a_proxy(proxy: Proxy, provider: ReplayUpstream) -> None:
    before = provider.stats["calls"]
    with OpenAI(base_url=proxy.base_url, api_key="sk-client", max_retries=1) as client, pytest.raises(openai.APIError):
        client.chat.completions.create(model="gpt-4o", messages=HELLO, extra_headers={"x-replay-fault": "error-500"})
    assert provider.stats["calls"] - before == 2


def test_every_call_is_in_the_log(client: OpenAI, proxy: Proxy) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO)
    call_id = raw.headers["x-understudy-call-id"]
    wait_for(lambda: proxy.admin("GET", f"/calls/{call_id}").status_code == 200)
    stored = proxy.admin("GET", f"/calls/{call_id}").json()
    assert (stored["endpoint"], stored["status"], stored["served_by"], stored["complete"]) == ("chat", 200, "llm", True)
