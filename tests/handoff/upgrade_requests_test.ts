// How a running server is asked for an upgrade, and what becomes of that.
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  connect,
  listen,
  onUpgradeRequest,
  requestUpgrade,
  type Socket,
  UpgradeError,
  WinsockError,
} from "@winsock/handoff";
import { endChild, lines, spawnCrowded, within } from "../kit/process.ts";

Deno.test("whoever asks for an upgrade is told how it failed", async () => {
  const file = await Deno.makeTempFile();
  try {
    const failures = [new UpgradeError("refused", "the configuration is not valid"), new Error("no room")];
    using _listening = onUpgradeRequest(() => Promise.reject(failures.shift()), { controlFile: file });
    const refused = await within(10_000, assertRejects(() => requestUpgrade(file), UpgradeError));
    assertEquals([refused.outcome, refused.reason], ["refused", "the configuration is not valid"]);
    const failed = await within(10_000, assertRejects(() => requestUpgrade(file), Error, "no room"));
    assertEquals(failed instanceof UpgradeError, false);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("requests that nobody listens for, or nobody answers, are told as what they are", async () => {
  assertThrows(() => onUpgradeRequest(() => Promise.reject(new Error("never")), {}), TypeError, "control file");
  const file = await Deno.makeTempFile();
  using silent = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = silent.addr;
  try {
    await Deno.writeTextFile(file, JSON.stringify({ processId: 0, port, secret: "secret" }));
    const abort = new AbortController();
    const waiting = assertRejects(() => requestUpgrade(file, { signal: abort.signal }), Error, "no longer");
    using _asked = await silent.accept();
    abort.abort(new Error("no longer"));
    await within(10_000, waiting);
    silent.close();
    const refused = await within(10_000, assertRejects(() => requestUpgrade(file), WinsockError));
    assertEquals(refused.codeName, "WSAECONNREFUSED");
  } finally {
    await Deno.remove(file);
  }
  await assertRejects(() => requestUpgrade(file), Deno.errors.NotFound);
});

Deno.test("after a failed upgrade it is again the old version that the control file leads to", async () => {
  const file = await Deno.makeTempFile();
  try {
    const other = () =>
      onUpgradeRequest(() => Promise.reject(new UpgradeError("busy", "other")), { controlFile: file });
    let asked = 0;
    using _listening = onUpgradeRequest(() => {
      asked++;
      // As a new version does that comes so far, and then ends.
      other()[Symbol.dispose]();
      return Promise.reject(asked === 1 ? new UpgradeError("crashed", "it ended") : new Error("no room"));
    }, { controlFile: file });
    await assertRejects(() => within(10_000, requestUpgrade(file)), UpgradeError, "it ended");
    for (let count = 0; count < 2; count++) {
      await assertRejects(() => within(10_000, requestUpgrade(file)), Error, "no room");
    }
    assertEquals(asked, 3);
    if (Deno.build.os !== "windows") assertEquals((await Deno.stat(file)).mode! & 0o777, 0o600);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("a version that is busy, or takes no more requests, leaves the control file alone", async () => {
  const file = await Deno.makeTempFile();
  try {
    for (const error of [new UpgradeError("busy", "another upgrade is under way"), new Error("no room")]) {
      using stack = new DisposableStack();
      const old = onUpgradeRequest(() => {
        stack.use(onUpgradeRequest(() => Promise.reject(new Error("the new one")), { controlFile: file }));
        if (!(error instanceof UpgradeError)) old[Symbol.dispose]();
        return Promise.reject(error);
      }, { controlFile: file });
      stack.use(old);
      await assertRejects(() => within(10_000, requestUpgrade(file)), Error, error.message);
      await assertRejects(() => within(10_000, requestUpgrade(file)), Error, "the new one");
    }
  } finally {
    await Deno.remove(file);
  }
});

Deno.test({
  name: "after a time without descriptors a server can be asked for an upgrade as before",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const file = await Deno.makeTempFile();
    const child = spawnCrowded("crowded_requests.ts", [file], [`--allow-write=${file}`]);
    const clients: Socket[] = [];
    try {
      assertEquals(await lines(child)(), "listening");
      const { port } = JSON.parse(await Deno.readTextFile(file));
      while (clients.length < 60) clients.push(await connect({ port }));
      // By then it has failed to accept.
      await new Promise((resolve) => setTimeout(resolve, 300));
      for (const client of clients) client.close();
      await assertRejects(() => within(10_000, requestUpgrade(file)), UpgradeError, "there is no next version");
    } finally {
      for (const client of clients) client.close();
      await endChild(child);
      await Deno.remove(file);
    }
  },
});
