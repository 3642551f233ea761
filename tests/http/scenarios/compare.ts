// Runs all scenarios on Deno.serve and on both engines of serveHttp.
import { listen } from "@winsock/handoff";
import { serveHttp, type ServeHttpOptions } from "@winsock/handoff/http";
import { within } from "../../kit/process.ts";
import { answersTo } from "./answers.ts";
import { PROGRAMS, type Start } from "./programs.ts";
import { handler, onError, REQUESTS } from "./requests.ts";

const KINDS = ["reference", "auto", "node:http"] as const;
type Kind = typeof KINDS[number];

/** What the three servers did in one scenario, and what is documented about it. */
export interface Result {
  readonly name: string;
  readonly seen: Readonly<Record<Kind, unknown>>;
  /** A part of a row in the tables of differences, if there is one. */
  readonly row: string | undefined;
  /** The engines that the row says differ. */
  readonly differs: readonly Kind[];
}

/** How many scenarios run at a time, each on three servers. */
const AT_ONCE = Deno.build.os === "windows" ? 4 : 12;

/** Runs a function for each of some values, a few at a time, and returns the results in their order. */
async function forAll<Value, Result>(values: readonly Value[], run: (value: Value) => Promise<Result>) {
  const results: Result[] = [];
  let next = 0;
  const work = async () => {
    while (next < values.length) {
      const at = next++;
      results[at] = await run(values[at]!);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return results;
}

/** Starts a server of a kind. */
function startOf(kind: Kind): Start {
  return (handler, { automaticCompression = false, ...options } = {}) => {
    const settings = { ...options as Pick<ServeHttpOptions, "onError" | "signal">, automaticCompression };
    if (kind === "reference") {
      const serveOptions = { hostname: "127.0.0.1", port: 0, onListen: () => {}, ...settings };
      const server = Deno.serve(serveOptions as Deno.ServeTcpOptions, (request, info) => {
        return handler(request, info, (upgrade) => Deno.upgradeWebSocket(request, upgrade)) as Response;
      });
      return { port: server.addr.port, url: `http://127.0.0.1:${server.addr.port}`, server };
    }
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const server = serveHttp(listener, (request, info) => {
      return handler(request, info, info.upgradeWebSocket) as Response;
    }, { engine: kind, ...settings });
    return { port, url: `http://127.0.0.1:${port}`, server };
  };
}

async function onEach(run: (kind: Kind) => Promise<unknown>): Promise<Result["seen"]> {
  const seen = KINDS.map(async (kind) => {
    try {
      return [kind, await within(30_000, run(kind))] as const;
    } catch (error) {
      return [kind, `failed: ${error}`] as const;
    }
  });
  return Object.fromEntries(await Promise.all(seen)) as Record<Kind, unknown>;
}

function differing(row: string | undefined, differs: "both" | "auto" | undefined): Kind[] {
  if (row === undefined) return [];
  return differs === "both" ? ["auto", "node:http"] : [differs ?? "node:http"];
}

/** Runs all scenarios. Those that are requests share their servers. */
export async function compare(): Promise<Result[]> {
  const servers = Object.fromEntries(KINDS.map((kind) => {
    return [kind, startOf(kind)(handler, { onError, automaticCompression: true })];
  }));
  const requests = await forAll(Object.entries(REQUESTS), async ([name, scenario]) => {
    const seen = await onEach((kind) => answersTo(scenario, servers[kind]!.port));
    return { name, seen, row: scenario.row, differs: differing(scenario.row, scenario.differs) };
  });
  await Promise.all(Object.values(servers).map(({ server }) => server.shutdown()));
  const programs = await forAll(Object.entries(PROGRAMS), async ([name, { run, row, differs }]) => {
    const seen = await onEach((kind) => run(startOf(kind)));
    return { name, seen, row, differs: differing(row, differs) };
  });
  return [...requests, ...programs];
}
