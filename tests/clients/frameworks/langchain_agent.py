"""LangChain's chat model: a tool call, its result, a streamed answer."""

import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def get_weather(city: str) -> str:
    """Weather in a city."""
    return f"rain in {city}"


model = ChatOpenAI(model="gpt-4o", base_url=sys.argv[1], api_key="sk-client", max_retries=0).bind_tools([get_weather])
messages = [HumanMessage("Weather in Oslo?")]
asked = model.invoke(messages)
messages += [asked, *(ToolMessage(get_weather.invoke(c["args"]), tool_call_id=c["id"]) for c in asked.tool_calls)]
print("".join(str(piece.content) for piece in model.stream(messages)))
