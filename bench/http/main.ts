/**
 * Servers on adopted connections against Deno's own, in one run: `deno task bench:http`.
 *
 * Each server is a process of its own. Requests are wrk's where that is installed, or else autocannon's, which is the slower
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
/** For connections that are kept, and for one a request, of which the one that accepts is a part. */
const GOALS: [of: Server, against: Server, kept: number, each: number][] = [
  ["serveHttp", "Deno.serve", 0.9, 0.7],
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

const options = parseArgs(Deno.args, { string: ["lane", "rounds", "seconds", "connections", "only"] });
const rounds = Number(options.rounds ?? 5);
const seconds = Number(options.seconds ?? 1);
const connections = Number(options.connections ?? 32);
const client = await haveWrk() ? wrk : autocannon;
const start = await openLane(options.lane ?? "linux");
console.log(`Deno ${Deno.version.deno}, ${options.lane ?? "linux"} lane, medians of ${rounds}\n`);

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
    const median = await compare("bench/http/streams.ts", STREAMS, 1, (port, seconds) => {
      return measureBytes(port, transfer, size, seconds * 1_000);
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

/** Starts all servers of a script, measures them in turn, round after round, and prints it; tells their medians. */
async function compare<Name extends string>(
  script: string,
  names: readonly Name[],
  digits: number,
  measure: (port: number, seconds: number) => Promise<number>,
): Promise<(name: Name) => number> {
  const figures = new Map<Name, number[]>(names.map((name) => [name, []]));
  await using processes = new AsyncDisposableStack();
  const ports = new Map<Name, number>();
  for (const name of names) ports.set(name, processes.use(await start(script, name)).port);
  for (const name of names) await measure(ports.get(name)!, 3 * seconds);
  for (let round = 0; round < rounds; round++) {
    // Whoever comes first, or after a busy one, must not always be the same.
    const first = round % names.length;
    for (const name of [...names.slice(first), ...names.slice(0, first)]) {
      figures.get(name)!.push(await measure(ports.get(name)!, seconds));
    }
  }
  const median = (name: Name) => figures.get(name)!.toSorted((a, b) => a - b)[rounds >> 1]!;
  for (const name of names) {
    const [least, most] = [Math.min(...figures.get(name)!), Math.max(...figures.get(name)!)];
    const text = [median(name), least, most].map((figure) => figure.toFixed(digits).padStart(8));
    console.log(`  ${name.padEnd(26)} ${text[0]}   (${text[1]} to ${text[2]})`);
  }
  return median;
}

async function wrk(url: string, headers: string[], seconds: number): Promise<number> {
  const args = ["-t1", `-c${connections}`, `-d${seconds}s`, ...headers.flatMap((header) => ["-H", header]), url];
  const text = await output("wrk", args);
  const failed = /Non-2xx.*|Socket errors.*/.exec(text)?.[0];
  // A server that ends the connection after its response is what wrk calls a read error.
  if (failed !== undefined && !/connect 0, read \d+, write 0, timeout 0/.test(failed)) {
    console.log(`  ${url}: ${failed}`);
  }
  const figure = /Requests\/sec: *([\d.]+)/.exec(text)?.[1];
  if (figure === undefined) throw new Error(text);
  return Number(figure);
}

async function autocannon(url: string, headers: string[], seconds: number): Promise<number> {
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
  const { requests, errors, non2xx } = JSON.parse(text);
  // One client that sees an error is no reason to stop; who reads the figures must know.
  if (errors + non2xx > 0) console.log(`  ${url}: ${errors} errors, ${non2xx} other answers of ${requests.total}`);
  return requests.average;
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
