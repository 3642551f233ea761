/**
 * The structure of the package: imports go down through the layers, never in a circle, and neither the package nor what an
 * entry point loads grows unnoticed.
 *
 *     deno run -A tools/structure.ts
 *
 * Prints the figures, and what is wrong with them. A module that a single other module imports is one too many, unless
 * `SINGLE_IMPORTER` names it.
 *
 * @module
 */
import { ENTRY_POINTS, type ModuleGraph, readModuleGraph } from "./module_graph.ts";

/** The folder of modules that are in none, such as `mod.ts`. */
const ROOT = ".";

/** Folders, from the top; those in one line may not import each other. */
const LAYERS: readonly (readonly string[])[] = [
  [ROOT],
  ["cli"],
  ["serve"],
  ["http", "interop"],
  ["handoff"],
  ["sockets"],
  ["spi"],
  ["ffi"],
  ["structs"],
  ["internal"],
];

/** Imports that go up or aside nevertheless, as `from → to`, and why. */
const LAYER_EXCEPTIONS: Readonly<Record<string, string>> = {};

/** Circles that are still there, as they are reported, and why. */
const CIRCLE_EXCEPTIONS: Readonly<Record<string, string>> = {};

/** What the most is that may be published, and loaded when an entry point is imported. Lower these as modules go. */
const MAX_PUBLISHED = 132;
const MAX_LOADED: Readonly<Record<string, number>> = {
  ".": 70,
  "./structs": 7,
  "./ffi": 33,
  "./spi": 57,
  "./interop": 56,
  "./http": 65,
  "./serve": 72,
  "./cli": 83,
};

/** Why a module may exist although a single other one imports it. */
type Reason = "data" | "backend of one system" | "state machine tested alone" | `own secret: ${string}`;
const SINGLE_IMPORTER: Readonly<Record<string, Reason>> = {
  "ffi/unix/acceptor.ts": "backend of one system",
  "ffi/unix/darwin.ts": "data",
  "ffi/unix/decisions.ts": "backend of one system",
  "ffi/unix/linux.ts": "data",
  "ffi/unix/provider_calls.ts": "backend of one system",
  "ffi/windows/acceptor.ts": "backend of one system",
  "ffi/windows/decisions.ts": "backend of one system",
  "ffi/windows/provider_calls.ts": "backend of one system",
  "ffi/windows/sockets.ts": "backend of one system",
  "handoff/outbox.ts": "state machine tested alone",
  "handoff/pool/shared_accepting.ts": "own secret: workers that accept by themselves; loaded when there are some",
  "handoff/pool/scheduler.ts": "own secret: which worker gets a socket, and how long sockets wait for one",
  "handoff/target.ts": "state machine tested alone",
  "handoff/unix_channel.ts": "backend of one system",
  "handoff/winsock_channel.ts": "backend of one system",
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

/** A number of modules, and how large it may be. */
export interface Figure {
  readonly name: string;
  readonly modules: number;
  readonly max: number;
}

/** The figures of a graph: published modules, and for each entry point those that importing it loads. */
export function figuresOf(graph: ModuleGraph): Figure[] {
  const loaded = [...ENTRY_POINTS].map(([name, path]) => {
    return { name: `loaded by ${name}`, modules: loadedBy(graph, path).size, max: MAX_LOADED[name] ?? 0 };
  });
  return [{ name: "published", modules: graph.size, max: MAX_PUBLISHED }, ...loaded];
}

/** The figures that are too large, a line each. */
export function figureProblems(figures: readonly Figure[]): string[] {
  return figures.filter(({ modules, max }) => modules > max)
    .map(({ name, modules, max }) => `${name}: ${modules} modules, the most allowed is ${max}`);
}

/** The modules that are loaded with a module, itself too: not those it needs for types, nor those it imports later. */
export function loadedBy(graph: ModuleGraph, start: string): Set<string> {
  const loaded = new Set([start]);
  for (const path of loaded) {
    for (const [imported, kind] of graph.get(path) ?? []) if (kind === "static") loaded.add(imported);
  }
  return loaded;
}

/**
 * Imports that do not go down, a line each, and exceptions that are not needed.
 *
 * @param graph Which module imports which.
 * @param exceptions Those that are allowed: `from → to`, and the reason.
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
 * The circles of imports, a line each, and exceptions that are not needed: from every module on one, the shortest.
 *
 * @param graph Which module imports which.
 * @param exceptions Those that are allowed: the circle, and the reason.
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
 * What was found and is not an exception, and exceptions that were not found, a line each.
 *
 * @param found Name → what is wrong with it.
 * @param exceptions Name → why it is allowed.
 */
function unexpected(found: ReadonlyMap<string, string>, exceptions: Readonly<Record<string, string>>): string[] {
  return [
    ...[...found].filter(([name]) => !(name in exceptions)).map(([name, problem]) => `${name}: ${problem}`),
    ...Object.keys(exceptions).filter((name) => !found.has(name)).map((name) => `${name}: remove this exception`),
  ].sort();
}

/** The modules of the shortest way from a module back to itself. */
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

/** Modules that one other module imports, which is no entry point, and the importer of each. */
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
 * Modules with one importer and without a reason, a line each, and reasons that are not needed.
 *
 * @param single What `singleImporters` found.
 * @param reasons Module → why it may be one.
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

/** How far down the layer of a module is; -1 if it is in none. */
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
