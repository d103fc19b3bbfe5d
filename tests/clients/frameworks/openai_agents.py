"""OpenAI's Agents SDK: an agent with a tool, streamed."""

import asyncio
import sys

from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI


@function_tool
def get_weather(city: str) -> str:
    """Weather in a city."""
    return f"rain in {city}"


async def main() -> None:
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=sys.argv[1], api_key="sk-client", max_retries=0)
    model = OpenAIChatCompletionsModel(model="gpt-4o", openai_client=client)
    run = Runner.run_streamed(Agent(name="weather", tools=[get_weather], model=model), "Weather in Oslo?")
    async for _ in run.stream_events():
        pass
    print(run.final_output)


asyncio.run(main())
