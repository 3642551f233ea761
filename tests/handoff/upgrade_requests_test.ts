// How a running server is asked for an upgrade, and what becomes of that.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { connect, listen, onUpgradeRequest, requestUpgrade, type Socket, UpgradeError } from "@winsock/handoff";
import { endChild, FFI_GRANT, lines, spawnCrowded, within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

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
    await Deno.remove(file).catch(() => {});
  }
});

Deno.test("requests that nobody listens for, or nobody answers, are told as what they are", async () => {
  assertThrows(() => onUpgradeRequest(() => Promise.reject(new Error("never")), {}), TypeError, "`controlFile`");
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
    const refused = await within(
      10_000,
      assertRejects(() => requestUpgrade(file), Deno.errors.ConnectionRefused, "left the file behind"),
    );
    assertEquals([refused.message.includes(`"${file}"`), refused.message.includes("it has ended")], [true, true]);
  } finally {
    await Deno.remove(file).catch(() => {});
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
    await Deno.remove(file).catch(() => {});
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
    await Deno.remove(file).catch(() => {});
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
      await Deno.remove(file).catch(() => {});
    }
  },
});

Deno.test("what is no control file, or leads to another server, is said to be so", async () => {
  const file = await Deno.makeTempFile();
  using other = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = other.addr;
  const refuse = (problem: string) => assertRejects(() => requestUpgrade(file), Deno.errors.InvalidData, problem);
  try {
    await refuse(`Cannot read control file "${file}": it is empty`);
    for (const text of ["{", "null", "[]", "{}", `{"port":${port}}`, '{"port":0,"secret":"x"}', '"text"']) {
      await Deno.writeTextFile(file, text);
      await refuse(`Cannot read control file "${file}": its content is not what a server writes`);
    }
    await Deno.writeTextFile(file, JSON.stringify({ port, secret: "secret" }));
    const asking = refuse(`Cannot reach the server of "${file}"`);
    using conn = (await other.accept()).toConn();
    await conn.write(new TextEncoder().encode("HTTP/1.1 400 Bad Request"));
    await conn.closeWrite();
    await within(10_000, asking);
  } finally {
    await Deno.remove(file).catch(() => {});
  }
});

/** Whether a file is there. */
async function exists(file: string): Promise<boolean> {
  return await Deno.stat(file).then(() => true, () => false);
}

Deno.test("the control file goes when listening ends, unless it is another version's by then", async () => {
  const file = await Deno.makeTempFile();
  const never = () => Promise.reject(new Error("never"));
  try {
    const old = onUpgradeRequest(never, { controlFile: file });
    const next = onUpgradeRequest(never, { controlFile: file });
    old[Symbol.dispose]();
    assertEquals(await exists(file), true);
    next[Symbol.dispose]();
    assertEquals(await exists(file), false);
  } finally {
    await Deno.remove(file).catch(() => {});
  }
});

for (const [how, end] of [["leaves its scope", ""], ["calls Deno.exit", "Deno.exit();"]] as const) {
  Deno.test(`a process that ${how} leaves no control file, if it may read it`, async () => {
    const file = await Deno.makeTempFile();
    const code = `
      import { onUpgradeRequest } from ${moduleUrl("mod.ts")};
      using _requests = onUpgradeRequest(() => Promise.reject(), { controlFile: ${JSON.stringify(file)} });
      ${end}
    `;
    try {
      assertEquals(await runCode(code, FFI_GRANT, `--allow-write=${file}`), "");
      assertEquals(await exists(file), true);
      assertEquals(await runCode(code, FFI_GRANT, `--allow-write=${file}`, `--allow-read=${file}`), "");
      assertEquals(await exists(file), false);
    } finally {
      await Deno.remove(file).catch(() => {});
    }
  });
}

/** A file that leads to an impostor: a program that listens on a port and has not read the file. */
async function withImpostor(
  answer: (conn: Deno.TcpConn, request: string) => Promise<void>,
  test: (file: string) => Promise<void>,
): Promise<void> {
  const file = await Deno.makeTempFile();
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const text = JSON.stringify({ processId: 1, port: listener.addr.port, secret: crypto.randomUUID() });
  await Deno.writeTextFile(file, text);
  const answering = (async () => {
    using conn = (await listener.accept()).toConn();
    const buffer = new Uint8Array(1_024);
    const count = await conn.read(buffer) ?? 0;
    await answer(conn, new TextDecoder().decode(buffer.subarray(0, count)));
  })();
  try {
    await test(file);
    await answering.catch(() => {});
  } finally {
    await Deno.remove(file).catch(() => {});
  }
}

Deno.test("an answer is believed only from who has the secret, which is not sent", async () => {
  const result = JSON.stringify({ result: { processId: 1, remaining: 0 } });
  const answers: Readonly<Record<string, (request: string) => string>> = {
    "the result alone": () => result,
    "the result in the form of an answer": () => `${"0".repeat(64)}\n${"0".repeat(64)}\n${result}\n`,
    "what was said to it": (request) => `${request.split(" ")[1]}${request.split(" ")[1]}${result}\n`,
    "its own nonce": (request) => `${request.split(" ")[0]}\n`,
  };
  for (const [what, answer] of Object.entries(answers)) {
    let said = "";
    await withImpostor(async (conn, request) => {
      said = request;
      await conn.write(new TextEncoder().encode(answer(request)));
      await conn.closeWrite();
    }, async (file) => {
      const { secret } = JSON.parse(await Deno.readTextFile(file));
      await within(
        10_000,
        assertRejects(() => requestUpgrade(file), Deno.errors.InvalidData, "another program answers"),
      );
      assertEquals(said.includes(secret), false, what);
    });
  }
});

Deno.test("an impostor that says more and more is not listened to for long", async () => {
  let sent = 0;
  await withImpostor(async (conn) => {
    const chunk = new Uint8Array(65_536).fill(0x1b);
    for (;;) sent += await conn.write(chunk);
  }, async (file) => {
    await within(10_000, assertRejects(() => requestUpgrade(file), Deno.errors.InvalidData, "another program answers"));
  });
  // What the buffers of the system hold, and no more.
  assert(sent < 20_000_000, `${sent} bytes`);
});

Deno.test("a request works once, and not for who repeats it or does not know the secret", async () => {
  const file = await Deno.makeTempFile();
  let asked = 0;
  try {
    using _listening = onUpgradeRequest(() => Promise.reject(new Error(`asked ${++asked} times`)), {
      controlFile: file,
    });
    const { port, secret } = JSON.parse(await Deno.readTextFile(file));
    for (const request of [`${secret}\n`, `${"0".repeat(32)} ${"0".repeat(64)}\n`, "\n", "x".repeat(10_000), " \n"]) {
      using conn = (await connect({ port })).toConn();
      await conn.write(new TextEncoder().encode(request)).catch(() => {});
      assertEquals(await new Response(conn.readable).text().catch(() => ""), "");
    }
    assertEquals(asked, 0);
    await assertRejects(() => within(10_000, requestUpgrade(file)), Error, "asked 1 times");
  } finally {
    await Deno.remove(file).catch(() => {});
  }
});

Deno.test("strangers that hold connections to the control port keep no request out", async () => {
  const file = await Deno.makeTempFile();
  const held: Socket[] = [];
  try {
    using _listening = onUpgradeRequest(() => Promise.reject(new Error("asked")), { controlFile: file });
    const { port } = JSON.parse(await Deno.readTextFile(file));
    const connectMore = async () => held.push(await connect({ port }));
    for (let count = 0; count < 100; count++) await connectMore();
    for (let count = 0; count < 5; count++) {
      const flood = Promise.all(Array.from({ length: 20 }, connectMore));
      await assertRejects(() => within(10_000, requestUpgrade(file)), Error, "asked");
      await flood;
    }
  } finally {
    for (const socket of held) socket.close();
    await Deno.remove(file).catch(() => {});
  }
});

Deno.test("what a version says is told without what a terminal acts on", async () => {
  const file = await Deno.makeTempFile();
  try {
    const failures = [new UpgradeError("refused", "\x1b[2J\u202egone\r\n"), new Error("no\x9b2J room\n")];
    using _listening = onUpgradeRequest(() => Promise.reject(failures.shift()), { controlFile: file });
    const refused = await within(10_000, assertRejects(() => requestUpgrade(file), UpgradeError));
    assertEquals(refused.reason, " [2J gone ");
    const failed = await within(10_000, assertRejects(() => requestUpgrade(file), Error));
    assertEquals(failed.message, "no 2J room ");
  } finally {
    await Deno.remove(file).catch(() => {});
  }
});
