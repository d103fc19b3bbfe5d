// Everything that the official Node client does in test_node.py, in one process; prints one JSON object of results.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "sk-client", maxRetries: 0 });
const hello = { model: "gpt-4o", messages: [{ role: "user", content: "Hello, wörld 🌍" }] };
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const weather = { name: "get_weather", description: "Weather in a city", parameters: city };
const asked = {
  model: "gpt-4o",
  messages: [{ role: "user", content: "Weather in Oslo and Rome?" }],
  tools: [{ type: "function", function: weather }],
};
const calls = (completion) =>
  completion.choices[0].message.tool_calls.map((call) => [call.id, JSON.parse(call.function.arguments)]);

async function caught(promise) {
  try {
    await promise;
    return "nothing";
  } catch (error) {
    return [error.constructor.name, error.status ?? null, error.headers?.get("retry-after") ?? null];
  }
}

const tests = {
  async chat() {
    const { data, response } = await client.chat.completions.create(hello).withResponse();
    return [data.choices[0].message.content, response.headers.get("x-understudy-served-by")];
  },
  async streamed() {
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...hello, stream: true })) {
      text += chunk.choices[0]?.delta?.content ?? "";
    }
    return text;
  },
  async tools() {
    return calls(await client.chat.completions.create(asked));
  },
  async tools_streamed() {
    return calls(await client.chat.completions.stream(asked).finalChatCompletion());
  },
  async structured() {
    const format = { type: "json_schema", json_schema: { name: "city", strict: true, schema: { type: "object" } } };
    const answer = await client.chat.completions.parse({ ...hello, response_format: format });
    return JSON.parse(answer.choices[0].message.content);
  },
  async responses() {
    return (await client.responses.create({ model: "gpt-4o", input: "Say hello." })).output_text;
  },
  async responses_streamed() {
    const stream = client.responses.stream({ model: "gpt-4o", input: "Say hello." });
    return (await stream.finalResponse()).output_text;
  },
  async embeddings() {
    return (await client.embeddings.create({ model: "text-embedding-3-small", input: ["a", "b"] })).data.length;
  },
  async models() {
    return (await client.models.list()).data.map((model) => model.id);
  },
  async files() {
    const content = Buffer.alloc(300000, "0123456789");
    const file = await client.files.create({ file: await toFile(content, "data.bin"), purpose: "user_data" });
    const back = Buffer.from(await (await client.files.content(file.id)).arrayBuffer());
    return [file.bytes, back.equals(content)];
  },
  async rate_limit() {
    return caught(client.chat.completions.create(hello, { headers: { "x-replay-fault": "error-429" } }));
  },
  async timeout() {
    return caught(client.chat.completions.create(hello, { headers: { "x-replay-fault": "stall" }, timeout: 500 }));
  },
  async cut_stream() {
    const read = async () => {
      const options = { headers: { "x-replay-fault": "cut" } };
      for await (const _ of await client.chat.completions.create({ ...hello, stream: true }, options));
    };
    return caught(read());
  },
};

const results = {};
for (const [name, run] of Object.entries(tests)) {
  try {
    results[name] = await run();
  } catch (error) {
    results[name] = `failed: ${error}`;
  }
}
console.log(JSON.stringify(results));
