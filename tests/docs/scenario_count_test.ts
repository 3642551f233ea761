// How many scenarios of other suites there are, as docs/migrating.md says, by the names under which they are registered; and
// that the table of what differs by design there has a test for each row.
import { assert, assertEquals } from "@std/assert";
import { assertTestExists, readText } from "../kit/named_tests.ts";
import { runCode } from "../kit/run.ts";

/** The tables of scenarios. Tests of one thing of our own are not here. */
const SUITES: Readonly<Record<string, number>> = {
  "sockets/scenarios_test.ts": 220,
  "handoff/peer_scenarios_test.ts": 21,
  "handoff/passing_scenarios_test.ts": 126,
};

/** The names of the tests in a file, which do not run. */
async function namesOf(file: string): Promise<string[]> {
  const code = `
    const names = [];
    Deno.test = Object.assign((test) => void names.push(typeof test === "string" ? test : test.name), { afterAll() {} });
    await import(${JSON.stringify(new URL(`../${file}`, import.meta.url).href)});
    console.log(JSON.stringify(names));
    Deno.exit();`;
  return JSON.parse(await runCode(code, "--allow-all"));
}

Deno.test("at least 300 scenarios of other suites are tests of this library, each with a name of its own", async () => {
  const all = await Promise.all(Object.keys(SUITES).map(namesOf));
  const counts = Object.fromEntries(Object.keys(SUITES).map((file, index) => [file, all[index]!.length]));
  assertEquals(counts, SUITES);
  const names = all.flat();
  assertEquals(new Set(names).size, names.length, "no name is there twice");
  assert(names.length >= 300);
  const page = await readText("docs/migrating.md");
  const [, said] = /The (\d+) scenarios that other libraries test/.exec(page) ?? [];
  assertEquals(Number(said), names.length, "docs/migrating.md says how many");
  for (const file of Object.keys(SUITES)) assert(page.includes(`\`tests/${file}\``), `docs/migrating.md names ${file}`);
});

/** The first cell of each row of the table → the test that shows what this library does. */
const DIFFERENCES: Readonly<Record<string, string>> = {
  "Python: `socket.share`": "sockets/shared_socket_test.ts: a listener can be shared, and is one",
  "Python: `fromshare` of bytes of another length":
    "sockets/scenarios_test.ts: bytes of another length, cut or garbled",
  "Python: a blob that is never opened": "spi/provider_test.ts: an unclaimed blob expires and lets the connection end",
  ".NET: `DuplicateAndClose`":
    "sockets/scenarios_test.ts: a duplicate is of the same kind, type and address, and works",
  ".NET: a socket that does not use IP": "handoff/passing_scenarios_test.ts: a local connection",
  ".NET: the blocking state": "interop/systemfd_c_test.ts: also on the non-blocking one",
  "libuv, Node: a handle that was sent":
    "handoff/peer_scenarios_test.ts: what waits when the other process ends comes back",
  "libuv, Node: handles that can be sent": "handoff/passing_scenarios_test.ts: a datagram socket on IPv6",
  "go-systemd: sockets without `LISTEN_PID`":
    "interop/systemd_test.ts: without a process id the sockets are for whoever",
  "go-systemd: names that are missing": "interop/systemd_test.ts: an error leaves a passed socket in its place",
  "go-systemd: the list of listeners, for a socket that does not listen":
    "interop/systemd_test.ts: an error leaves a passed socket in its place",
  "go-systemd, `listenfd`: variables for another process":
    "interop/systemd_test.ts: sockets for another process are left alone",
  "`listenfd`: a TCP socket that does not listen is taken as a listener":
    "interop/systemd_test.ts: an error leaves a passed socket in its place",
  "sd_listen_fds: `LISTEN_FDS` that is not a number":
    "interop/systemd_test.ts: an environment that makes no sense is an error",
  "libsystemd: `sd_is_socket` and its siblings":
    "interop/systemd_test.ts: datagram and local sockets of systemd-socket-activate are told apart",
};

Deno.test("each row of what differs by design has a test", async () => {
  const [, section = ""] = (await readText("docs/migrating.md")).split("## What differs by design\n");
  assert(section !== "");
  const rows = section.split("\n").filter((line) => line.startsWith("| ") && !/^\| (---|\|)/.test(line));
  const names = rows.map((line) => line.slice(2).split(" | ")[0]!).filter((name) => name !== "|");
  assertEquals(names, Object.keys(DIFFERENCES));
  for (const [row, test] of Object.entries(DIFFERENCES)) {
    const [, file, name] = /^(.+?): (.+)$/.exec(test)!;
    await assertTestExists(`\`${file}\`: ${name}`, row);
  }
});
