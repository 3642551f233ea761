// The servers of the page "Getting started", as they are printed there, under the permissions it names.
import { assertEquals, assertNotEquals } from "@std/assert";
import { endChild, FFI_GRANT, lines, within } from "../kit/process.ts";
import {
  answerOf,
  freePort,
  layOutSnippets,
  processThatAnswers,
  startSnippet,
  upgradeSnippet,
} from "../kit/snippets.ts";

const PAGE = "docs/getting-started.md";
const UPGRADE_GRANTS = [
  "--allow-env=WINSOCK_HANDOFF_PREDECESSOR",
  "--allow-read=server.control",
  "--allow-write=server.control",
];

Deno.test("getting started: the pool answers from two processes", async () => {
  const port = freePort();
  await using snippets = await layOutSnippets(PAGE, ["worker.ts", "pool.ts"], port);
  const pool = startSnippet(snippets, "pool.ts", ["--allow-run", FFI_GRANT]);
  try {
    assertEquals(await lines(pool)(), `Process ${pool.pid} listens on port ${port}`);
    const answered = new Set<number>();
    for (let count = 0; count < 4; count++) answered.add(await processThatAnswers(port));
    assertEquals(answered.size, 2);
  } finally {
    await endChild(pool);
  }
});

Deno.test("getting started: the server is upgraded by the command, and the old version ends by itself", async () => {
  const port = freePort();
  await using snippets = await layOutSnippets(PAGE, ["worker.ts", "server.ts"], port);
  const server = startSnippet(snippets, "server.ts", ["--allow-run", ...UPGRADE_GRANTS, FFI_GRANT]);
  const nextLine = lines(server);
  let successor = 0;
  try {
    assertEquals(await nextLine(), `Process ${server.pid} serves port ${port}`);
    const before = await processThatAnswers(port);
    successor = await upgradeSnippet(snippets);
    assertEquals(await nextLine(), `Process ${successor} serves port ${port}`);
    assertNotEquals(await processThatAnswers(port), before);
    assertEquals((await within(20_000, server.status)).code, 0);
    await processThatAnswers(port);
  } finally {
    await endChild(server);
    if (successor > 0) Deno.kill(successor, "SIGKILL");
  }
});

Deno.test("getting started: a response that takes longer than the defaults allow outlives an upgrade", async () => {
  const port = freePort();
  await using snippets = await layOutSnippets(PAGE, ["worker.ts", "server.ts"], port);
  const worker = new URL("worker.ts", snippets.folder);
  const code = await Deno.readTextFile(worker);
  const wait = 'if (request.url.endsWith("/slow")) await new Promise((resolve) => setTimeout(resolve, 13_000));';
  const slow = code.replace("(request) => {\n", `async (request) => {\n${wait}\n`);
  assertNotEquals(slow, code);
  await Deno.writeTextFile(worker, slow);
  const server = startSnippet(snippets, "server.ts", ["--allow-run", ...UPGRADE_GRANTS, FFI_GRANT]);
  const nextLine = lines(server);
  let successor = 0;
  try {
    await nextLine();
    const answer = answerOf(port, "GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    // Until a worker has it.
    await processThatAnswers(port);
    successor = await upgradeSnippet(snippets);
    assertEquals((await within(30_000, answer)).split("\r\n")[0], "HTTP/1.1 200 OK");
    assertEquals((await within(10_000, server.status)).code, 0);
  } finally {
    await endChild(server);
    if (successor > 0) Deno.kill(successor, "SIGKILL");
  }
});

Deno.test("getting started: a pool whose workers cannot be started again ends, and says so", async () => {
  const port = freePort();
  await using snippets = await layOutSnippets(PAGE, ["worker.ts", "pool.ts"], port);
  const server = new URL("pool.ts", snippets.folder);
  const code = await Deno.readTextFile(server);
  await Deno.writeTextFile(server, code.replace("size: 2,", "size: 2, maxFailures: 1, restartDelay: 10,"));
  const pool = startSnippet(snippets, "pool.ts", ["--allow-run", FFI_GRANT]);
  try {
    assertEquals(await lines(pool)(), `Process ${pool.pid} listens on port ${port}`);
    // Restarted workers run what is on disk by then.
    await Deno.writeTextFile(new URL("worker.ts", snippets.folder), "Deno.exit(3);");
    for (let count = 0; count < 2; count++) Deno.kill(await processThatAnswers(port), "SIGKILL");
    assertEquals((await within(30_000, pool.status)).code, 1);
  } finally {
    await endChild(pool);
  }
});
