// Genkit JS on the collection that its argument names: its own FirestoreStateStore, and a durable flow on top of it.
// Each line of standard input is a command, an array of a name and arguments; each is answered by a line of JSON that
// begins with "reply ", for Genkit itself says things on standard output too.
const {Flow, FirestoreStateStore} = require("@genkit-ai/flow");
const {interrupt, resumeFlow, run} = require("@genkit-ai/flow/experimental");
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

const commands = {
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
