/**
 * Checks the structure of the package: imports go down through the layers and never form a circle, and the number of
 * published modules, and of the modules that an entry point loads, stays within its limit.
 *
 *     deno run -A tools/structure.ts
 *
 * Prints the numbers and the problems. A module with a single importer is a problem, unless `SINGLE_IMPORTER` contains
 * it.
 *
 * @module
 */
import { ENTRY_POINTS, type ModuleGraph, readModuleGraph } from "./module_graph.ts";

/** The folder of modules that are not in a folder, such as `mod.ts`. */
const ROOT = ".";

/** The folders, from the top. Folders in one line must not import each other. */
const LAYERS: readonly (readonly string[])[] = [
  [ROOT],
  ["cli"],
  ["serve"],
  ["http", "interop", "otel"],
  ["handoff"],
  ["sockets"],
  ["spi"],
  ["ffi"],
  ["structs"],
  ["internal"],
];

/** Imports that go up or sideways and are allowed, as `from → to`, and the reason. */
const LAYER_EXCEPTIONS: Readonly<Record<string, string>> = {};

/** Circles that are allowed, in the format of the report, and the reason. */
const CIRCLE_EXCEPTIONS: Readonly<Record<string, string>> = {};

/**
 * The maximum number of modules that are published, and that are loaded with an entry point. Lower them as modules are
 * removed.
 */
const MAX_PUBLISHED = 140;
const MAX_LOADED: Readonly<Record<string, number>> = {
  ".": 70,
  "./structs": 7,
  "./ffi": 33,
  "./spi": 57,
  "./interop": 56,
  "./http": 66,
  "./serve": 72,
  "./otel": 4,
  "./cli": 84,
};

/** The reason why a module with a single importer may exist. */
type Reason = "data" | "backend of one system" | "state machine tested alone" | `own secret: ${string}`;
const SINGLE_IMPORTER: Readonly<Record<string, Reason>> = {
  "ffi/unix/darwin.ts": "data",
  "ffi/unix/decisions.ts": "backend of one system",
  "ffi/unix/files.ts": "backend of one system",
  "ffi/unix/linux.ts": "data",
  "ffi/unix/provider_calls.ts": "backend of one system",
  "ffi/windows/acceptor.ts": "backend of one system",
  "ffi/windows/decisions.ts": "backend of one system",
  "ffi/windows/files.ts": "backend of one system",
  "ffi/windows/provider_calls.ts": "backend of one system",
  "ffi/windows/sockets.ts": "backend of one system",
  "handoff/pool/shared_accepting.ts": "own secret: workers that accept by themselves; loaded when there are some",
  "handoff/pool/worker_output.ts": "own secret: lines of a worker's output; loaded when a pool prefixes them",
  "handoff/pool/scheduler.ts": "own secret: which worker gets a socket, and how long sockets wait for one",
  "handoff/target.ts": "state machine tested alone",
  "handoff/unix_channel.ts": "backend of one system",
  "handoff/winsock_channel.ts": "backend of one system",
  "http/compression.ts": "own secret: which responses are compressed, and how",
  "http/deno_body.ts": "own secret: the body of a request that Deno reads, with its limit",
  "http/deno_connection.ts": "own secret: a connection that Deno's server has",
  "http/deno_engine.ts": "own secret: Deno's server",
  "http/exchange.ts": "own secret: one request and its response on node:http",
  "http/node_server.ts": "own secret: what node:http's server is made to do differently",
  "http/restore_env.ts": "own secret: the order of imports is what it does",
  "http/slow_clients.ts": "own secret: when a client counts as too slow",
  "sockets/conn.ts": "own secret: Deno.TcpConn on a descriptor",
  "sockets/polled_stream.ts": "own secret: a node:net socket without Deno's internals",
  "spi/unix/rendezvous.ts": "own secret: answering claims of strangers and targets",
};

/** A number of modules, and its limit. */
export interface Figure {
  readonly name: string;
  readonly modules: number;
  readonly max: number;
}

/** Returns the numbers of a graph: the published modules, and the modules that each entry point loads. */
export function figuresOf(graph: ModuleGraph): Figure[] {
  const loaded = [...ENTRY_POINTS].map(([name, path]) => {
    return { name: `loaded by ${name}`, modules: loadedBy(graph, path).size, max: MAX_LOADED[name] ?? 0 };
  });
  return [{ name: "published", modules: graph.size, max: MAX_PUBLISHED }, ...loaded];
}

/** Returns the numbers that exceed their limit, one per line. */
export function figureProblems(figures: readonly Figure[]): string[] {
  return figures.filter(({ modules, max }) => modules > max)
    .map(({ name, modules, max }) => `${name}: ${modules} modules, the most allowed is ${max}`);
}

/** Returns the modules that are loaded with a module, including itself, without type imports and dynamic imports. */
export function loadedBy(graph: ModuleGraph, start: string): Set<string> {
  const loaded = new Set([start]);
  for (const path of loaded) {
    for (const [imported, kind] of graph.get(path) ?? []) if (kind === "static") loaded.add(imported);
  }
  return loaded;
}

/**
 * Returns the imports that do not go down, one per line, and the exceptions that are not needed.
 *
 * @param graph The modules and their imports.
 * @param exceptions The allowed imports, as `from → to`, and the reason.
 */
export function layerProblems(graph: ModuleGraph, exceptions = LAYER_EXCEPTIONS): string[] {
  const unknown = [...graph.keys()].filter((path) => layerOf(path) === -1);
  const upward = new Map<string, string>();
  for (const [from, to] of importsIn(graph)) {
    if (folderOf(from) === folderOf(to) || layerOf(from) < layerOf(to)) continue;
    upward.set(`${from} → ${to}`, `${folderOf(to)} is not below ${folderOf(from)}`);
  }
  return [
    ...unknown.map((path) => `${path}: the folder ${folderOf(path)} is in no layer`),
    ...unexpected(upward, exceptions),
  ];
}

/**
 * Returns the circles of imports, one per line, and the exceptions that are not needed. For each module in a circle,
 * this is the shortest circle.
 *
 * @param graph The modules and their imports.
 * @param exceptions The allowed circles, and the reason.
 */
export function circleProblems(graph: ModuleGraph, exceptions = CIRCLE_EXCEPTIONS): string[] {
  const circles = new Map<string, string>();
  for (const path of graph.keys()) {
    const circle = shortestCircle(graph, path);
    if (circle === undefined) continue;
    const first = circle.indexOf([...circle].sort()[0]!);
    const turned = [...circle.slice(first), ...circle.slice(0, first)];
    circles.set([...turned, turned[0]].join(" → "), "a circle");
  }
  return unexpected(circles, exceptions);
}

/**
 * Returns the findings without an exception, and the exceptions without a finding, one per line.
 *
 * @param found The name of each finding → the problem.
 * @param exceptions The name of each exception → the reason.
 */
function unexpected(found: ReadonlyMap<string, string>, exceptions: Readonly<Record<string, string>>): string[] {
  return [
    ...[...found].filter(([name]) => !(name in exceptions)).map(([name, problem]) => `${name}: ${problem}`),
    ...Object.keys(exceptions).filter((name) => !found.has(name)).map((name) => `${name}: remove this exception`),
  ].sort();
}

/** Returns the modules of the shortest path from a module to itself. */
function shortestCircle(graph: ModuleGraph, start: string): string[] | undefined {
  const ways = new Map<string, string[]>([["", [start]]]);
  for (const way of ways.values()) {
    for (const imported of graph.get(way.at(-1)!)?.keys() ?? []) {
      if (imported === start) return way;
      if (!ways.has(imported)) ways.set(imported, [...way, imported]);
    }
  }
  return undefined;
}

/** Returns the modules that only one other module imports and that are not entry points, with their importers. */
export function singleImporters(graph: ModuleGraph): Map<string, string> {
  const importers = Map.groupBy(importsIn(graph), ([, to]) => to);
  const entryPoints = new Set(ENTRY_POINTS.values());
  const single = new Map<string, string>();
  for (const path of [...graph.keys()].sort()) {
    const [first, ...others] = importers.get(path) ?? [];
    if (first === undefined || others.length > 0 || entryPoints.has(path) || entryPoints.has(first[0])) continue;
    single.set(path, first[0]);
  }
  return single;
}

/**
 * Returns the modules with a single importer and without a reason, one per line, and the reasons that are not needed.
 *
 * @param single The result of `singleImporters`.
 * @param reasons The module → the reason why it may have a single importer.
 */
export function singleImporterProblems(
  single: ReadonlyMap<string, string>,
  reasons: Readonly<Record<string, Reason>> = SINGLE_IMPORTER,
): string[] {
  return unexpected(new Map([...single].map(([path, importer]) => [path, `only ${importer}`])), reasons);
}

function* importsIn(graph: ModuleGraph): Generator<[from: string, to: string]> {
  for (const [from, imports] of graph) for (const to of imports.keys()) yield [from, to];
}

function folderOf(path: string): string {
  return path.includes("/") ? path.slice(0, path.indexOf("/")) : ROOT;
}

/** Returns the layer of a module, from 0 at the top; -1 if its folder is not in a layer. */
function layerOf(path: string): number {
  return LAYERS.findIndex((folders) => folders.includes(folderOf(path)));
}

if (import.meta.main) {
  const graph = await readModuleGraph();
  const figures = figuresOf(graph);
  const single = singleImporters(graph);
  const withoutReason = singleImporterProblems(single);

  const width = Math.max(...figures.map(({ name }) => name.length));
  console.log(`${"modules".padEnd(width)}  now  max`);
  for (const { name, modules, max } of figures) {
    console.log(`${name.padEnd(width)}  ${`${modules}`.padStart(3)}  ${`${max}`.padStart(3)}`);
  }
  console.log(`\n${single.size} modules have a single importer that is not an entry point, each for a reason`);

  const problems = [
    ...figureProblems(figures),
    ...layerProblems(graph),
    ...circleProblems(graph),
    ...withoutReason,
  ];
  if (problems.length > 0) console.error(`\n${problems.join("\n")}`);
  Deno.exit(problems.length === 0 ? 0 : 1);
}
