// An operator at a client of another maker: node-opcua, told by a script what to do.
//
// usage: node operator.mjs script.json
//
// script: {endpoint, policy, namespace, certificate, key, pki, password, connections: [{user, steps: [{op, ...}]}]}; a
// connection may say otherwise what the script says. Each connection prints a line of JSON on standard output, {op:
// "connect"}, with error where it was refused; so does each of its steps: {op, ...what came of it}, or {op, error}. Nodes are written "Feeder/F1/Pos" (in our namespace) or as ids ("i=2253").
import { readFileSync } from "node:fs";
import * as opcua from "node-opcua";

const {
  AttributeIds, BrowseDirection, ClientMonitoredItemGroup, ClientSubscription, constructEventFilter, DataType,
  MessageSecurityMode, OPCUACertificateManager, OPCUAClient, SecurityPolicy, TimestampsToReturn, UserTokenType,
  Variant, VariantArrayType,
} = opcua;

const script = JSON.parse(readFileSync(process.argv[2], "utf8"));
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function plain(variant) {
  if (!variant || variant.value === null || variant.value === undefined) return null;
  const { value } = variant;
  if (value instanceof Date) return value.toISOString();
  if (Buffer.isBuffer(value)) return value.toString("hex");
  if (ArrayBuffer.isView(value)) return Array.from(value, Number);
  if (typeof value === "object" && typeof value.text === "string") return value.text;
  return typeof value === "object" ? JSON.parse(JSON.stringify(value)) : value;
}

class Operator {
  constructor(session, index) {
    this.session = session;
    this.index = index;
  }

  node(name) {
    return /^(ns=\d+;)?[isgb]=/.test(name) ? name : `ns=${this.index};s=${name}`;
  }

  // Everything below a node, by as many questions as the server's pages demand.
  async browse({ node, page = 100 }) {
    this.session.requestedMaxReferencesPerNode = page;
    const asked = {
      nodeId: this.node(node), browseDirection: BrowseDirection.Forward, referenceTypeId: "HierarchicalReferences",
      includeSubtypes: true, nodeClassMask: 0, resultMask: 63,
    };
    let found = await this.session.browse(asked);
    const references = [...(found.references ?? [])];
    let pages = 1;
    while (found.continuationPoint && found.continuationPoint.length) {
      found = await this.session.browseNext(found.continuationPoint, false);
      references.push(...(found.references ?? []));
      pages += 1;
    }
    return { status: found.statusCode.name, pages, names: references.map((one) => one.browseName.name) };
  }

  async read({ nodes }) {
    const values = await this.session.read(nodes.map((name) => ({ nodeId: this.node(name), attributeId: AttributeIds.Value })));
    return {
      values: values.map((one) => ({
        value: plain(one.value), status: one.statusCode.name, source: one.sourceTimestamp?.toISOString() ?? null,
      })),
    };
  }

  async write({ node, value, type }) {
    const status = await this.session.write({
      nodeId: this.node(node), attributeId: AttributeIds.Value, value: { value: new Variant({ dataType: DataType[type], value }) },
    });
    return { status: status.name };
  }

  async call({ object, method, inputs = [] }) {
    const result = await this.session.call({
      objectId: this.node(object), methodId: this.node(method),
      inputArguments: inputs.map(({ type, value, array }) => new Variant({
        dataType: DataType[type], arrayType: array ? VariantArrayType.Array : VariantArrayType.Scalar,
        value: value === "NaN" ? NaN : value,
      })),
    });
    return {
      status: result.statusCode.name, outputs: (result.outputArguments ?? []).map(plain),
      arguments: (result.inputArgumentResults ?? []).map((one) => one.name),
    };
  }

  async history({ node, seconds = 3600 }) {
    const end = new Date(Date.now() + 3600e3);
    const found = await this.session.readHistoryValue(this.node(node), new Date(end - 7200e3 - seconds * 1e3), end);
    const values = found.historyData?.dataValues ?? [];
    return { status: found.statusCode.name, values: values.map((one) => plain(one.value)) };
  }

  async #subscription(interval) {
    return ClientSubscription.create(this.session, {
      requestedPublishingInterval: interval, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 10,
      maxNotificationsPerPublish: 5000, publishingEnabled: true, priority: 1,
    });
  }

  // Subscribes to these nodes and does other steps meanwhile; how many nodes have told a value, and the last ones told.
  async subscribe({ nodes, wait_ms = 2000, interval = 250, shown = [], during = [] }) {
    const subscription = await this.#subscription(interval);
    const told = new Map();
    let changes = 0;
    const began = Date.now();
    let complete_ms = null;
    const refused = [];
    for (let from = 0; from < nodes.length; from += 1000) {
      const part = nodes.slice(from, from + 1000);
      const group = ClientMonitoredItemGroup.create(
        subscription, part.map((name) => ({ nodeId: this.node(name), attributeId: AttributeIds.Value })),
        { samplingInterval: interval, queueSize: 10, discardOldest: true }, TimestampsToReturn.Both,
      );
      group.on("changed", (item, value, index) => {
        changes += 1;
        told.set(part[index], plain(value.value));
        if (told.size === nodes.length && complete_ms === null) complete_ms = Date.now() - began;
      });
      group.on("err", (message) => refused.push(message));
      await new Promise((resolve) => {
        group.once("initialized", resolve);
        group.once("err", resolve);
      });
      group.monitoredItems.forEach((item, index) => {
        if (item.statusCode && item.statusCode.value !== 0) refused.push(`${part[index]}: ${item.statusCode.name}`);
      });
    }
    const created_ms = Date.now() - began;
    const steps = [];
    for (const step of during) steps.push(await this.run(step));
    const until = Date.now() + wait_ms;
    while (Date.now() < until && (told.size < nodes.length || during.length)) await pause(50);
    await subscription.terminate();
    return {
      told: told.size, changes, created_ms, complete_ms, refused, during: steps,
      last: Object.fromEntries(shown.map((name) => [name, told.get(name) ?? null])),
    };
  }

  async events({ node = "i=2253", wait_ms = 3000, fields = ["SourceName", "Message", "Severity"], during = [], until = null }) {
    const subscription = await this.#subscription(100);
    const found = [];
    const item = await subscription.monitor(
      { nodeId: this.node(node), attributeId: AttributeIds.EventNotifier },
      { samplingInterval: 0, queueSize: 1000, discardOldest: true, filter: constructEventFilter(fields) },
      TimestampsToReturn.Both,
    );
    const status = item.statusCode?.name ?? "Good";
    item.on("changed", (values) => found.push(Object.fromEntries(fields.map((name, index) => [name, plain(values[index])]))));
    const steps = [];
    for (const step of during) steps.push(await this.run(step));
    const end = Date.now() + wait_ms;
    while (Date.now() < end && !(until && found.some((one) => JSON.stringify(one).includes(until)))) await pause(50);
    await subscription.terminate();
    return { status, events: found, during: steps };
  }

  async pause({ ms }) {
    await pause(ms);
    return {};
  }

  async run(step) {
    try {
      return { op: step.op, ...(await this[step.op](step)) };
    } catch (error) {
      return { op: step.op, error: String(error.message ?? error) };
    }
  }
}

// One connection with its steps.
async function connection(manager, wanted) {
  const client = OPCUAClient.create({
    applicationName: "operator", applicationUri: wanted.applicationUri, clientCertificateManager: manager,
    certificateFile: wanted.certificate, privateKeyFile: wanted.key, endpointMustExist: false,
    securityMode: MessageSecurityMode[wanted.mode ?? "SignAndEncrypt"], securityPolicy: SecurityPolicy[wanted.policy],
    connectionStrategy: { initialDelay: 100, maxRetry: 0 }, requestedSessionTimeout: 60_000, keepSessionAlive: true,
    transportTimeout: 15_000,
  });
  try {
    await client.connect(wanted.endpoint);
    const identity = wanted.user
      ? { type: UserTokenType.UserName, userName: wanted.user, password: wanted.password }
      : { type: UserTokenType.Anonymous };
    const session = await client.createSession(identity);
    const index = (await session.readNamespaceArray()).indexOf(wanted.namespace);
    say({ op: "connect", namespace: index });
    const operator = new Operator(session, index);
    for (const step of wanted.steps ?? []) say(await operator.run(step));
    await session.close();
  } catch (error) {
    say({ op: "connect", error: String(error.message ?? error) });
  }
  await client.disconnect();
}

const manager = new OPCUACertificateManager({ rootFolder: script.pki, automaticallyAcceptUnknownCertificate: true });
await manager.initialize();
for (const each of script.connections) await connection(manager, { ...script, ...each });
await manager.dispose?.();
process.exit(0);
