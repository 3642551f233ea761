// The servers of the page "Getting started", as they are printed there, under the permissions it names.
import { assertEquals, assertNotEquals } from "@std/assert";
import { endChild, FFI_GRANT, lines, within } from "../kit/process.ts";
import { freePort, layOutSnippets, processThatAnswers, startSnippet, upgradeSnippet } from "../kit/snippets.ts";

const PAGE = "docs/getting-started.md";
const UPGRADE_GRANTS = ["--allow-env=WINSOCK_HANDOFF_PREDECESSOR", "--allow-write=server.control"];

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
