// The servers of the page "Migrating", as they are printed there.
import { assertEquals, assertNotEquals } from "@std/assert";
import { endChild, FFI_GRANT, within } from "../kit/process.ts";
import { freePort, layOutSnippets, processThatAnswers, startSnippet, upgradeSnippet } from "../kit/snippets.ts";

const PAGE = "docs/migrating.md";

Deno.test("migrating: a worker of what was a cluster is replaced when it dies", async () => {
  const port = freePort();
  await using snippets = await layOutSnippets(PAGE, ["primary.ts", "cluster_worker.ts"], port);
  const primary = startSnippet(snippets, "primary.ts", ["--allow-run", FFI_GRANT]);
  try {
    const first = await processThatAnswers(port);
    assertNotEquals(first, primary.pid);
    Deno.kill(first, "SIGKILL");
    for (let count = 0; count < 3; count++) assertNotEquals(await processThatAnswers(port), first);
  } finally {
    await endChild(primary);
  }
});

Deno.test("migrating: a single process that serves HTTP is replaced, and ends by itself", async () => {
  const port = freePort();
  await using snippets = await layOutSnippets(PAGE, ["single.ts"], port);
  const control = ["--allow-read=server.control", "--allow-write=server.control"];
  const grants = ["--allow-run", "--allow-env=WINSOCK_HANDOFF_PREDECESSOR", ...control, FFI_GRANT];
  const server = startSnippet(snippets, "single.ts", grants);
  let successor = 0;
  try {
    assertEquals(await processThatAnswers(port), server.pid);
    successor = await upgradeSnippet(snippets);
    assertEquals(await processThatAnswers(port), successor);
    assertEquals((await within(20_000, server.status)).code, 0);
  } finally {
    await endChild(server);
    if (successor > 0) Deno.kill(successor, "SIGKILL");
  }
});
