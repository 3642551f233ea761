/**
 * Requests a second of servers on adopted connections against Deno's own, in one run: `deno task bench:http`.
 *
 * Each server is a process of its own, and so is the client: wrk where it is installed, or else autocannon, which is the
 * slower of the two and hides differences between fast servers. Medians of five rounds; in each round every server has its
 * turn, so that what else the machine does hits all of them.
 *
 *     deno task bench:http [--rounds 5] [--seconds 1] [--connections 32]
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";

const SERVERS = [
  "serveHttp",
  "srvx on Deno's node:http",
  "adopted node:http",
  "Deno's node:http",
  "Deno.serve",
] as const;
type Server = typeof SERVERS[number];
const CLIENTS = { "keep-alive": [], "a connection for each request": ["Connection: close"] };
const GOALS: [of: Server, against: Server, least: number][] = [
  ["serveHttp", "srvx on Deno's node:http", 0.95],
  ["adopted node:http", "Deno's node:http", 0.95],
  ["serveHttp", "Deno's node:http", 0.95],
  ["serveHttp", "Deno.serve", 0.6],
];

const options = parseArgs(Deno.args, { string: ["rounds", "seconds", "connections"] });
const rounds = Number(options.rounds ?? 5);
const seconds = Number(options.seconds ?? 1);
const connections = Number(options.connections ?? 32);
const client = await haveWrk() ? wrk : autocannon;
console.log(`Deno ${Deno.version.deno}, client ${client.name}, ${connections} connections, medians of ${rounds}\n`);

for (const [kind, headers] of Object.entries(CLIENTS)) {
  const figures = new Map<Server, number[]>(SERVERS.map((server) => [server, []]));
  for (let round = 0; round < rounds; round++) {
    for (const server of SERVERS) figures.get(server)!.push(await measure(server, headers));
  }
  const median = (server: Server) => figures.get(server)!.toSorted((a, b) => a - b)[rounds >> 1]!;
  console.log(kind);
  for (const server of SERVERS) {
    const [least, most] = [Math.min(...figures.get(server)!), Math.max(...figures.get(server)!)];
    console.log(`  ${server.padEnd(26)} ${perSecond(median(server))}   (${perSecond(least)} to ${perSecond(most)})`);
  }
  for (const [of, against, goal] of GOALS) {
    const ratio = median(of) / median(against);
    console.log(`  ${of} is ${ratio.toFixed(2)} of ${against}, goal ${goal}: ${ratio >= goal ? "met" : "NOT met"}`);
  }
  console.log();
}

async function measure(server: Server, headers: string[]): Promise<number> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--allow-all", "--no-check", new URL("server.ts", import.meta.url).href, server],
    stdout: "piped",
  }).spawn();
  try {
    const reader = child.stdout.getReader();
    const { value } = await reader.read();
    const url = `http://127.0.0.1:${new TextDecoder().decode(value).trim()}/`;
    await client(url, headers, 1);
    const figure = await client(url, headers, seconds);
    reader.cancel();
    return figure;
  } finally {
    child.kill("SIGKILL");
    await child.status;
  }
}

async function wrk(url: string, headers: string[], seconds: number): Promise<number> {
  const args = ["-t1", `-c${connections}`, `-d${seconds}s`, ...headers.flatMap((header) => ["-H", header]), url];
  const text = await output("wrk", args);
  const failed = /Non-2xx.*|Socket errors.*/.exec(text)?.[0];
  // A server that ends the connection after its response is what wrk calls a read error.
  if (failed !== undefined && !/connect 0, read \d+, write 0, timeout 0/.test(failed)) throw new Error(failed);
  return Number(/Requests\/sec: *([\d.]+)/.exec(text)?.[1]);
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
  if (errors + non2xx > 0) throw new Error(`${errors} errors, ${non2xx} other answers`);
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

function perSecond(figure: number): string {
  return `${Math.round(figure).toString().padStart(7)}/s`;
}
