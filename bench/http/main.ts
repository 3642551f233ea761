/**
 * Servers on adopted connections against Deno's own, in one run: `deno task bench:http`.
 *
 * Each server is a process of its own. Errors that clients see do not end the run: they are counted, and printed with their
 * names below the figures. Requests are wrk's where that is installed, or else autocannon's, which is the slower
 * of the two and hides differences between fast servers; bytes are this process's. Medians of five rounds, after one that
 * does not count; in each round every server has its turn, so that what else the machine does hits all of them. The first
 * round is three times as long: the more code a server has, the longer it takes to become fast. Compare figures of one
 * lane only.
 *
 *     deno task bench:http [--lane linux|windows] [--rounds 5] [--seconds 1] [--connections 32] [--only requests|bytes]
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { openLane } from "./lane.ts";
import { measureBytes } from "./bytes.ts";

const SERVERS = [
  "serveHttp",
  "serveHttp by node:http",
  "adopted node:http",
  "node:http by plain calls",
  "Deno's node:http",
  "Deno.serve",
] as const;
type Server = typeof SERVERS[number];
const CLIENTS = { "keep-alive": [], "a connection for each request": ["Connection: close"] };
const options = parseArgs(Deno.args, { string: ["lane", "rounds", "seconds", "connections", "only"] });
const { lane = "linux" } = options;
/** For connections that are kept, and for one a request, of which the one that accepts is a part. */
const GOALS: [of: Server, against: Server, kept: number, each: number][] = [
  ["serveHttp", "Deno.serve", ...lane === "linux" ? [0.9, 0.7] as const : [0.8, 0.6] as const],
  ["serveHttp by node:http", "Deno's node:http", 0.9, 0],
  ["adopted node:http", "Deno's node:http", 0.95, 0],
  ["node:http by plain calls", "Deno's node:http", 0, 0],
  ["Deno's node:http", "Deno.serve", 0, 0],
];
const STREAMS = [
  "adopted toNodeSocket()",
  "adopted toConn()",
  "toConn() by plain calls",
  "Deno's node:net",
  "Deno.TcpConn",
] as const;
const TRANSFERS = [["one way", 64], ["one way", 65_536], ["echo", 64], ["echo", 65_536]] as const;

const rounds = Number(options.rounds ?? 5);
const seconds = Number(options.seconds ?? 1);
const connections = Number(options.connections ?? 32);
const client = await haveWrk() ? wrk : autocannon;
const start = await openLane(lane);
console.log(`Deno ${Deno.version.deno}, ${lane} lane, medians of ${rounds}\n`);

if (options.only !== "bytes") {
  for (const [kind, headers] of Object.entries(CLIENTS)) {
    console.log(`requests a second of ${client.name}: ${kind}, ${connections} connections`);
    const median = await compare("bench/http/server.ts", SERVERS, 0, (port, seconds) => {
      return client(`http://127.0.0.1:${port}/`, headers, seconds);
    });
    for (const [of, against, kept, each] of GOALS) {
      const goal = headers.length === 0 ? kept : each;
      const ratio = median(of) / median(against);
      const verdict = goal === 0 ? "" : `, goal ${goal}: ${ratio >= goal ? "met" : "NOT met"}`;
      console.log(`  ${of} is ${ratio.toFixed(2)} of ${against}${verdict}`);
    }
    console.log();
  }
}
if (options.only !== "requests") {
  for (const [transfer, size] of TRANSFERS) {
    console.log(`MiB a second of one connection: ${transfer}, ${size} bytes at a time`);
    const median = await compare("bench/http/streams.ts", STREAMS, 1, async (port, seconds) => {
      return { figure: await measureBytes(port, transfer, size, seconds * 1_000), errors: {} };
    });
    const ratio = median("adopted toNodeSocket()") / median("Deno's node:net");
    console.log(`  adopted toNodeSocket() is ${ratio.toFixed(2)} of Deno's node:net`);
    for (const path of ["adopted toConn()", "toConn() by plain calls"] as const) {
      const ratio = median(path) / median("Deno.TcpConn");
      const goal = path === "adopted toConn()" ? `, goal 0.95: ${ratio >= 0.95 ? "met" : "NOT met"}` : "";
      console.log(`  ${path} is ${ratio.toFixed(2)} of Deno.TcpConn${goal}`);
    }
    console.log();
  }
}

/** What was measured, and how many errors of each name the clients saw. */
interface Measured {
  readonly figure: number;
  readonly errors: Readonly<Record<string, number>>;
}

/** Starts all servers of a script, measures them in turn, round after round, and prints it; tells their medians. */
async function compare<Name extends string>(
  script: string,
  names: readonly Name[],
  digits: number,
  measure: (port: number, seconds: number) => Promise<Measured>,
): Promise<(name: Name) => number> {
  const figures = new Map<Name, number[]>(names.map((name) => [name, []]));
  const errors = new Map<Name, Map<string, number>>(names.map((name) => [name, new Map()]));
  await using processes = new AsyncDisposableStack();
  const ports = new Map<Name, number>();
  for (const name of names) ports.set(name, processes.use(await start(script, name)).port);
  const measureOne = async (name: Name, seconds: number): Promise<number | undefined> => {
    const seen = errors.get(name)!;
    try {
      const measured = await measure(ports.get(name)!, seconds);
      for (const [error, count] of Object.entries(measured.errors)) seen.set(error, (seen.get(error) ?? 0) + count);
      return measured.figure;
    } catch (error) {
      // The server or the client has ended.
      const what = String(error).split("\n", 1)[0]!;
      seen.set(what, (seen.get(what) ?? 0) + 1);
      return undefined;
    }
  };
  for (const name of names) await measureOne(name, 3 * seconds);
  for (let round = 0; round < rounds; round++) {
    // Whoever comes first, or after a busy one, must not always be the same.
    const first = round % names.length;
    for (const name of [...names.slice(first), ...names.slice(0, first)]) {
      const figure = await measureOne(name, seconds);
      if (figure !== undefined) figures.get(name)!.push(figure);
    }
  }
  const median = (name: Name) => {
    const sorted = figures.get(name)!.toSorted((a, b) => a - b);
    return sorted[sorted.length >> 1] ?? NaN;
  };
  for (const name of names) {
    const [least, most] = [Math.min(...figures.get(name)!), Math.max(...figures.get(name)!)];
    const text = [median(name), least, most].map((figure) => figure.toFixed(digits).padStart(8));
    console.log(`  ${name.padEnd(26)} ${text[0]}   (${text[1]} to ${text[2]})`);
    for (const [error, count] of errors.get(name)!) console.log(`    clients saw ${count} times: ${error}`);
  }
  return median;
}

async function wrk(url: string, headers: string[], seconds: number): Promise<Measured> {
  const args = ["-t1", `-c${connections}`, `-d${seconds}s`, ...headers.flatMap((header) => ["-H", header]), url];
  const text = await output("wrk", args);
  const figure = /Requests\/sec: *([\d.]+)/.exec(text)?.[1];
  if (figure === undefined) throw new Error(`wrk: ${text.trim()}`);
  const errors: Record<string, number> = {};
  const count = (name: string, value: string | undefined) => {
    if (value !== undefined && value !== "0") errors[name] = Number(value);
  };
  const [, connect, read, write, timeout] = /connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text) ?? [];
  count("cannot connect", connect);
  // A server that ends the connection after its response, as it was asked to, is what wrk calls a read error.
  if (headers.length === 0) count("cannot read", read);
  count("cannot write", write);
  count("timeout", timeout);
  count("other status than 2xx or 3xx", /Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1]);
  return { figure: Number(figure), errors };
}

async function autocannon(url: string, headers: string[], seconds: number): Promise<Measured> {
  const args = [
    "run",
    "--quiet",
    "--allow-all",
    "npm:autocannon@9.0.0",
    "--json",
    "-c",
    `${connections}`,
    "-d",
    `${seconds}`,
  ];
  const text = await output(Deno.execPath(), [...args, ...headers.flatMap((header) => ["-H", header]), url]);
  const { requests, errors, timeouts, non2xx } = JSON.parse(text);
  const seen = { "connection error": errors - timeouts, timeout: timeouts, "other status than 2xx": non2xx };
  return {
    figure: requests.average,
    errors: Object.fromEntries(Object.entries(seen).filter(([, count]) => count > 0)),
  };
}

async function haveWrk(): Promise<boolean> {
  try {
    await new Deno.Command("wrk", { args: ["-v"], stdout: "null", stderr: "null" }).output();
    return true;
  } catch {
    return false;
  }
}

async function output(command: string, args: string[]): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(command, { args }).output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}
