// Genkit JS on the collection that its argument names: its own FirestoreStateStore, and a durable flow on top of it.
// Each line of standard input is a command, an array of a name and arguments; each is answered by a line of JSON that
// begins with "reply ", for Genkit itself says things on standard output too.
const {Flow, FirestoreStateStore} = require("@genkit-ai/flow");
const {OperationSchema} = require("@genkit-ai/core");
const {interrupt, resumeFlow, run, scheduleFlow, sleep, waitFor} = require("@genkit-ai/flow/experimental");
const {z} = require("zod");

const store = new FirestoreStateStore({collection: process.argv[2]});

const order = new Flow(
  {
    name: "order",
    inputSchema: z.object({item: z.string()}),
    experimentalDurable: true,
    stateStore: async () => store,
    invoker: async (flow, message) => (await flow.runEnvelope(message)).operation,
  },
  async ({item}) => {
    const price = await run("price", async () => ({item, cents: 1250}));
    const approval = await interrupt("approval", z.object({by: z.string()}), async (payload) => payload);
    const shipped = await run("ship", async () => ({carrier: "Genkit JS"}));
    return {price, approval, shipped};
  },
);

// All that Python may find of a run: falsy results, two sleeps of one name, an event, and a failure.
let fails = false;
const begun = [];
const give = (name, value) => run(name, async () => (begun.push(name), value));
const trip = new Flow(
  {
    name: "trip",
    inputSchema: z.any(),
    experimentalDurable: true,
    stateStore: async () => store,
    scheduler: async () => {}, // the test wakes it
    invoker: async (flow, message) => (await flow.runEnvelope(message)).operation,
  },
  async () => {
    const falsy = [];
    for (const [name, value] of [["zero", 0], ["text", ""], ["no", false], ["nothing", null]]) {
      const found = await give(name, value);
      falsy.push(found === undefined ? "undefined" : found);
    }
    const kept = await give("kept", {list: [0, false, "", null]});
    await sleep("nap", 3600);
    await sleep("nap", 3600);
    const sure = await interrupt("sure", z.any(), async (payload) => ({...payload, seen: "Genkit JS"}));
    const last = await run("last", async () => {
      begun.push("last");
      if (fails) throw new Error("no luck");
      return "Genkit JS";
    });
    return {falsy, kept, sure, last};
  },
);

// A flow that waits for others to end, and then for an answer.
const gather = new Flow(
  {
    name: "gather",
    inputSchema: z.object({ids: z.array(z.string())}),
    experimentalDurable: true,
    stateStore: async () => store,
    scheduler: async () => {}, // as above
    invoker: async (flow, message) => (await flow.runEnvelope(message)).operation,
  },
  async ({ids}) => {
    await waitFor("all", order, ids);
    await interrupt("sure", z.any(), async (payload) => payload);
    return await run("last", async () => "Genkit JS");
  },
);

// A client of a durable flow that is served elsewhere, as Genkit's own invokers are.
const remote = (url) => ({
  post: async (envelope, query = "") => {
    const answer = await fetch(url + query, {
      method: "POST",
      headers: {"Content-Type": "application/json"},
      body: JSON.stringify({data: envelope}),
    });
    return {status: answer.status, body: await answer.json()};
  },
  flow: new Flow(
    {
      name: "order",
      inputSchema: z.object({item: z.string()}),
      experimentalDurable: true,
      invoker: async (flow, message) => OperationSchema.parse((await remote(url).post(message)).body),
    },
    async () => {},
  ),
});

const commands = {
  trip: async (envelope) => (await trip.runEnvelope(envelope)).operation,
  gather: async (envelope) => (await gather.runEnvelope(envelope)).operation,
  fail: async (whether) => void (fails = whether),
  begun: async () => begun.splice(0),
  post: async (url, envelope, query) => remote(url).post(envelope, query),
  schedule: async (url, input, delay) => scheduleFlow(remote(url).flow, input, delay),
  resumeThere: async (url, id, payload) => resumeFlow(remote(url).flow, id, payload),
  load: async (id) => (await store.load(id)) ?? null,
  save: async (id, state) => store.save(id, state),
  list: async (query) => store.list(query),
  start: async (input) => (await order.runEnvelope({start: {input}})).flowId,
  resume: async (id, payload) => resumeFlow(order, id, payload),
};

(async () => {
  for await (const line of require("node:readline").createInterface({input: process.stdin})) {
    const [name, ...args] = JSON.parse(line);
    let reply;
    try {
      reply = {returned: (await commands[name](...args)) ?? null};
    } catch (error) {
      reply = {raised: String(error.message)};
    }
    process.stdout.write(`reply ${JSON.stringify(reply)}\n`);
  }
})();
