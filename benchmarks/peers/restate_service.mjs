// What Restate's server calls for the cases: its TypeScript SDK, as its makers show it. The same as restate_service.py.
//
// usage: node restate_service.mjs PORT MODULES   (MODULES: the folder that npm installed the SDK into)

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// Node.js 20 lacks what the SDK uses of Node.js 22.
Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

const [port, modules] = process.argv.slice(2);
const found = createRequire(`${modules}/`).resolve("@restatedev/restate-sdk");
const restate = await import(pathToFileURL(found));

const hello = (name) => `hello ${name}`;

const steps = restate.service({
  name: "Steps",
  handlers: {
    three_steps: async (context) => {
      const greetings = [];
      for (const city of ["Tokyo", "Seattle", "London"]) {
        greetings.push(await context.run("hello", () => hello(city)));
      }
      return greetings;
    },
    fan_out: async (context, number) => {
      const all = Array.from({ length: number }, (_, at) => context.run("hello", () => hello(`${at}`)));
      return (await restate.RestatePromise.all(all)).length;
    },
    sleeps: async (context, dueS) => {
      await context.sleep(Math.max(0, dueS * 1000 - (await context.date.now())));
      return Date.now() / 1000 - dueS;
    },
  },
});

const counter = restate.object({
  name: "Counter",
  handlers: {
    add: async (context, number) => {
      const state = (await context.get("state")) ?? { value: 0, count: 0, quality: "good" };
      state.value += number;
      state.count += 1;
      context.set("state", state);
      return state.count;
    },
  },
});

const waits = restate.workflow({
  name: "Waits",
  handlers: {
    run: async (context) => {
      await context.promise("go");
      return Date.now() / 1000;
    },
    go: async (context, value) => {
      await context.promise("go").resolve(value);
    },
  },
});

restate.serve({ services: [steps, counter, waits], port: Number(port) });
