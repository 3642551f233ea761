// A target that has no room for another descriptor.
import { assert, assertEquals } from "@std/assert";
import { HandoffError, HandoffSource } from "@winsock/handoff";
import { connection } from "../kit/connections.ts";
import { needs } from "../kit/needs.ts";
import { endChild, lines, spawnCrowded, within } from "../kit/process.ts";

Deno.test("a target without room for a descriptor rejects it with WSAEMFILE", needs("the unix provider"), async () => {
  const child = spawnCrowded("crowded_target.ts");
  const line = lines(child);
  const source = new HandoffSource(child, { sendTimeout: 10_000 });
  try {
    using first = await connection();
    await within(20_000, source.send(first.server));
    assertEquals(await line(), "full");
    // Deno's reading of stdin has one descriptor, which it does without while what was read is looked at.
    const pairs = await Promise.all(Array.from({ length: 3 }, () => connection()));
    const ends = await within(20_000, Promise.allSettled(pairs.map(({ server }) => source.send(server))));
    const failures = ends.filter((end) => end.status === "rejected").map(({ reason }) => reason);
    assert(failures.length >= 2, `${failures.length} were rejected`);
    for (const error of failures) {
      assert(error instanceof HandoffError);
      assertEquals([error.outcome, error.reason.includes("WSAEMFILE")], ["rejected", true], error.reason);
    }
    for (const _ of ends.filter(({ status }) => status === "fulfilled")) assertEquals(await line(), "received");
    assertEquals(await line(), "free");
    using last = await connection();
    await within(20_000, source.send(last.server));
    assertEquals(await line(), "received");
    for (const pair of pairs) pair[Symbol.dispose]();
  } finally {
    await endChild(child);
    await within(20_000, source.closed);
  }
});
