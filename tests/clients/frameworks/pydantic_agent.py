"""Pydantic AI: an agent with a tool, streamed."""

import asyncio
import sys

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

agent = Agent(OpenAIChatModel("gpt-4o", provider=OpenAIProvider(base_url=sys.argv[1], api_key="sk-client")))


@agent.tool_plain
def get_weather(city: str) -> str:
    """Weather in a city."""
    return f"rain in {city}"


async def main() -> None:
    async with agent.run_stream("Weather in Oslo?") as run:
        print(await run.get_output())


asyncio.run(main())
