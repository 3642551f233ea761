// A target that is not trusted can have its source's close of a connection block: a pool thread closes it then.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, HandoffError, HandoffSource, listen } from "@winsock/handoff";
import { settledDescriptors } from "../kit/descriptors.ts";
import { within } from "../kit/process.ts";
import { needs } from "../kit/needs.ts";

const SCRIPT = new URL("../children/lingering_target.ts", import.meta.url);
/** Closing blocks for three seconds where nothing is done about it. */
const MAX_STILL_MS = 1_500;

async function end(source: HandoffSource): Promise<void> {
  (source.child as Deno.ChildProcess).kill("SIGKILL");
  await source.child.status;
}

/** The longest time in which the event loop did not turn while something was done. */
async function longestStill(act: () => Promise<void>): Promise<number> {
  let last = performance.now();
  let longest = 0;
  const look = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  };
  const timer = setInterval(look, 5);
  try {
    await act();
    look();
  } finally {
    clearInterval(timer);
  }
  return longest;
}

for (const how of ["taken", "withdrawn"]) {
  Deno.test(
    `a socket that lingers when it was ${how} does not hold up its source`,
    needs("the unix provider"),
    async () => {
      const source = await HandoffSource.spawn(SCRIPT, {
        args: [how],
        denoFlags: ["--no-check", "--cached-only"],
        trusted: false,
      });
      using listener = listen({ hostname: "127.0.0.1", port: 0 });
      try {
        await within(20_000, source.ready);
        // Its peer reads nothing.
        using _client = await connect({ port: listener.addr.port });
        const socket = await listener.accept();
        const [before] = await settledDescriptors(Deno.pid);
        const still = await longestStill(async () => {
          if (how === "taken") await within(20_000, source.send(socket));
          else await within(20_000, assertRejects(() => source.send(socket), HandoffError, "rejected"));
          socket.close();
        });
        assert(still < MAX_STILL_MS, `the event loop stood still for ${still} ms`);
        const [after] = await settledDescriptors(Deno.pid);
        assert(after! < before!, `${after} descriptors, ${before} before`);
      } finally {
        await source.close();
        await end(source);
      }
    },
  );
}

Deno.test("a target that is not trusted gets no listener", async () => {
  const source = await HandoffSource.spawn(new URL("../children/echo.ts", import.meta.url), {
    denoFlags: ["--no-check", "--cached-only"],
    trusted: false,
  });
  try {
    await within(20_000, source.ready);
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    await assertRejects(() => source.send(listener), TypeError, "is not trusted");
    assertEquals(listener.addr.hostname, "127.0.0.1");
  } finally {
    await source.close();
    await end(source);
  }
});
