"""LiteLLM as a client: a tool call, its result, a streamed answer."""

import json
import sys

import litellm

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
how = {"model": "openai/gpt-4o", "api_base": sys.argv[1], "api_key": "sk-client", "num_retries": 0, "tools": [TOOL]}
messages = [{"role": "user", "content": "Weather in Oslo?"}]
asked = litellm.completion(messages=messages, **how).choices[0].message
messages.append(asked.model_dump(exclude_none=True))
for call in asked.tool_calls:
    city = json.loads(call.function.arguments)["city"]
    messages.append({"role": "tool", "tool_call_id": call.id, "content": f"rain in {city}"})
stream = litellm.completion(messages=messages, stream=True, **how)
print("".join(piece.choices[0].delta.content or "" for piece in stream))
