// Programs that serve, and what they and their clients see of it: the same is compared between Deno.serve and both engines.
import { connect as connectHttp2 } from "node:http2";
import { HANDSHAKE, RawClient } from "../../kit/http_client.ts";
import { within } from "../../kit/process.ts";

/** The WebSocket of a server, and the response to return. */
interface Upgraded {
  readonly socket: Omit<WebSocket, "dispatchEvent">;
  readonly response: Response;
}

/** What a handler is given: the request, the information that both have, and how a WebSocket is made. */
type Handler = (
  request: Request,
  info: { readonly remoteAddr: unknown; readonly completed: Promise<void> },
  upgrade: (options?: { protocol?: string; headers?: HeadersInit; idleTimeout?: number }) => Upgraded,
) => unknown;

export interface Options {
  readonly onError?: (error: unknown) => unknown;
  readonly signal?: AbortSignal;
  readonly automaticCompression?: boolean;
}

/** A server of one of the three kinds. */
export interface Running {
  readonly port: number;
  readonly url: string;
  readonly server: {
    readonly addr: unknown;
    readonly finished: Promise<void>;
    shutdown(): Promise<void>;
    ref(): void;
    unref(): void;
    [Symbol.asyncDispose](): PromiseLike<void>;
  };
}

export type Start = (handler: Handler, options?: Options) => Running;

/** A program, and how the engines differ from Deno.serve. */
export interface ProgramScenario {
  /** Serves, and returns what was seen, as JSON. */
  readonly run: (start: Start) => Promise<unknown>;
  readonly row?: string;
  /** The engines that the row is about; `node:http` if nothing is said. */
  readonly differs?: "both" | "auto";
}

type Run = ProgramScenario["run"];

const encode = (text: string) => new TextEncoder().encode(text);
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const nameOf = (error: unknown) => (error as Error | undefined)?.name ?? String(error);
/** How long a scenario waits for what does happen, in milliseconds. */
const PATIENCE = 15_000;
/** What a promise resolves to, or "nothing" if it takes longer. */
const orNothing = async (promise: Promise<unknown>, patience: number): Promise<unknown> => {
  const { promise: late, resolve } = Promise.withResolvers<unknown>();
  const timer = setTimeout(resolve, patience, "nothing");
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
};
/** What becomes of a promise, or that nothing does for a while. */
const outcome = (promise: Promise<unknown>, patience = PATIENCE) => {
  return orNothing(promise.then(() => "resolved", (error) => `rejected: ${nameOf(error)}`), patience);
};
const wrap = (run: Run, row?: string, differs?: "both" | "auto"): ProgramScenario => {
  return { run, ...row === undefined ? {} : { row }, ...differs === undefined ? {} : { differs } };
};

/** A server that is shut down when a function has used it. */
async function using(start: Start, handler: Handler, use: (running: Running) => Promise<unknown>, options?: Options) {
  const running = start(handler, options);
  try {
    return await use(running);
  } finally {
    await within(20_000, running.server.shutdown());
  }
}

/** A server and one raw connection to it. */
function talking(
  start: Start,
  handler: Handler,
  talk: (client: RawClient, running: Running) => Promise<unknown>,
  options?: Options,
) {
  return using(start, handler, async (running) => {
    using client = await RawClient.connect(running.port);
    return await talk(client, running);
  }, options);
}

/** What a client receives until its WebSocket closes, and with which code. */
async function webSocketSession(url: string, send: (string | Uint8Array<ArrayBuffer>)[], protocols: string[] = []) {
  const socket = new WebSocket(url.replace("http", "ws"), protocols);
  socket.binaryType = "arraybuffer";
  const seen: unknown[] = [];
  const closed = Promise.withResolvers<void>();
  socket.onopen = () => {
    seen.push(`open ${socket.protocol}`);
    for (const message of send) socket.send(message);
  };
  socket.onmessage = ({ data }) => seen.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
  socket.onclose = ({ code, reason, wasClean }) => {
    seen.push([code, reason, wasClean]);
    closed.resolve();
  };
  await within(20_000, closed.promise);
  return seen;
}

const echo: Handler = (_, __, upgrade) => {
  const { socket, response } = upgrade();
  socket.onmessage = ({ data }) => data === "bye" ? socket.close(3_000, "bye") : socket.send(data);
  return response;
};

/** What a handler throws when it asks for a WebSocket, and what its client gets. */
const refusedUpgrade = (lines: readonly string[]): Run => (start) => {
  const thrown: string[] = [];
  return talking(start, (_, __, upgrade) => {
    try {
      return upgrade().response;
    } catch (error) {
      thrown.push(nameOf(error));
      return new Response("refused", { status: 400 });
    }
  }, async (client) => {
    await client.send("GET / HTTP/1.1", "Host: a", ...lines, "");
    return [(await client.response()).status, thrown];
  });
};

/** The status of the response to a handshake with these options. */
const handshake = (options: { protocol?: string; headers?: HeadersInit }, ...lines: string[]): Run => (start) => {
  return talking(start, (_, __, upgrade) => {
    const { socket, response } = upgrade(options);
    socket.onopen = () => socket.close();
    return response;
  }, async (client) => {
    await client.send("GET / HTTP/1.1", "Host: a", ...HANDSHAKE, ...lines, "");
    const head = (await client.head()).split("\r\n").filter((line) => !/^date/i.test(line));
    return head.map((line) => line.replace(/^[^:]+:/, (name) => name.toLowerCase())).sort();
  }, { onError: () => new Response("failed", { status: 500 }) });
};

const WEB_SOCKETS: Record<string, ProgramScenario> = {
  "a WebSocket is echoed, text and bytes": wrap((start) =>
    using(start, echo, ({ url }) => webSocketSession(url, ["hello", new Uint8Array([1, 2]), "", "bye"]))
  ),
  "a WebSocket of 100 000 bytes is echoed": wrap((start) =>
    using(start, echo, ({ url }) => webSocketSession(url, ["x".repeat(100_000), "bye"]))
  ),
  "a WebSocket that the server closes at once": wrap((start) =>
    using(start, (_, __, upgrade) => {
      const { socket, response } = upgrade();
      socket.onopen = () => socket.close();
      return response;
    }, ({ url }) => webSocketSession(url, []))
  ),
  "a WebSocket that the server greets": wrap((start) =>
    using(start, (_, __, upgrade) => {
      const { socket, response } = upgrade();
      socket.onopen = () => {
        socket.send("welcome");
        socket.close(1_000, "done");
      };
      return response;
    }, ({ url }) => webSocketSession(url, []))
  ),
  "the events and states of a WebSocket on the server": wrap(async (start) => {
    const seen: unknown[] = [];
    const closed = Promise.withResolvers<void>();
    await using(start, (_, __, upgrade) => {
      const { socket, response } = upgrade();
      seen.push([socket.binaryType, socket.protocol, socket.extensions]);
      socket.onopen = () => seen.push(["open", socket.readyState]);
      socket.onmessage = ({ data }) => seen.push(data instanceof ArrayBuffer ? "bytes" : data);
      socket.onclose = ({ code, reason }) => {
        seen.push(["close", code, reason, socket.readyState]);
        closed.resolve();
      };
      return response;
    }, async ({ url }) => {
      const client = new WebSocket(url.replace("http", "ws"));
      client.onopen = () => {
        client.send("text");
        client.send(new Uint8Array(2));
        client.close(4_000, "enough");
      };
      await within(20_000, closed.promise);
    });
    return seen;
  }),
  "the state of a WebSocket in the handler": wrap(
    async (start) => {
      const seen: number[] = [];
      await using(start, (_, __, upgrade) => {
        const { socket, response } = upgrade();
        seen.push(socket.readyState);
        socket.onopen = () => socket.close();
        return response;
      }, ({ url }) => webSocketSession(url, []));
      return seen;
    },
    "`readyState` of a WebSocket",
    "both",
  ),
  "a subprotocol that is offered": wrap(handshake({ protocol: "b" }, "Sec-WebSocket-Protocol: a, b")),
  "a subprotocol that is not offered": wrap(
    handshake({ protocol: "c" }, "Sec-WebSocket-Protocol: a, b"),
    "`protocol` must be one that the client offers",
    "both",
  ),
  "a handshake with headers": wrap(
    handshake({ headers: { "x-a": "b", "set-cookie": "c=d" } }),
    "`headers` of the handshake",
    "both",
  ),
  "a request for a WebSocket that does not ask for one": wrap(refusedUpgrade([])),
  "a request for a WebSocket without a key": wrap(refusedUpgrade(HANDSHAKE.filter((line) => !line.includes("Key")))),
  "a request for a WebSocket of another version": wrap(
    refusedUpgrade(HANDSHAKE.map((line) => line.replace("Version: 13", "Version: 99"))),
    "a WebSocket of another version",
    "both",
  ),
  "a request for a WebSocket without Connection": wrap(refusedUpgrade(HANDSHAKE.slice(1))),
  "a second upgrade of a request": wrap(async (start) => {
    const thrown: boolean[] = [];
    await using(start, (_, __, upgrade) => {
      const { socket, response } = upgrade();
      try {
        upgrade();
      } catch {
        thrown.push(true);
      }
      socket.onopen = () => socket.close();
      return response;
    }, ({ url }) => webSocketSession(url, []));
    return thrown;
  }),
  "a request is readable after its upgrade": wrap(async (start) => {
    const seen: unknown[] = [];
    await using(start, (request, _, upgrade) => {
      seen.push(request.headers.get("upgrade"));
      const { socket, response } = upgrade();
      socket.onopen = () => {
        seen.push(new URL(request.url).pathname, request.method);
        socket.close();
      };
      return response;
    }, ({ url }) => webSocketSession(`${url}/path`, []));
    return seen;
  }),
  "a WebSocket is an instance": wrap(
    async (start) => {
      const seen: boolean[] = [];
      await using(start, (_, __, upgrade) => {
        const { socket, response } = upgrade();
        seen.push(socket instanceof WebSocket);
        socket.onopen = () => socket.close();
        return response;
      }, ({ url }) => webSocketSession(url, []));
      return seen;
    },
    "`socket instanceof WebSocket`",
    "both",
  ),
  "a close code that is none": wrap(
    async (start) => {
      const seen: string[] = [];
      await using(start, (_, __, upgrade) => {
        const { socket, response } = upgrade();
        socket.onopen = () => {
          try {
            socket.close(1005);
          } catch (error) {
            seen.push((error as Error).constructor.name);
          }
          socket.close();
        };
        return response;
      }, ({ url }) => webSocketSession(url, []));
      return seen;
    },
    "`socket.close(1005)`",
    "both",
  ),
  "frames in the packet of the handshake": wrap(
    (start) =>
      talking(start, echo, async (client) => {
        const head = ["GET / HTTP/1.1", "Host: a", ...HANDSHAKE, "", ""].join("\r\n");
        const close = [0x88, 0x80, 0, 0, 0, 0];
        await client.write(new Uint8Array([...encode(head), 0x81, 0x85, 0, 0, 0, 0, ...encode("hello"), ...close]));
        await client.head();
        return await orNothing(client.rest().then((rest) => rest.includes("hello")), 1_000);
      }),
    "frames that a client sends before",
    "auto",
  ),
  "a shutdown asks a WebSocket to go": wrap(async (start) => {
    const open = Promise.withResolvers<void>();
    const running = start((_, __, upgrade) => {
      const { socket, response } = upgrade();
      socket.onopen = () => open.resolve();
      return response;
    });
    const session = webSocketSession(running.url, []);
    await within(20_000, open.promise);
    await within(20_000, running.server.shutdown());
    const [, closed] = await session as [string, unknown[]];
    return closed[0];
  }),
};

/** A response of some parts, with a pause before each. */
function slowly(...parts: string[]): Response {
  return new Response(ReadableStream.from((async function* () {
    for (const part of parts) {
      await sleep(20);
      yield encode(part);
    }
  })()));
}

const LIFE: Record<string, ProgramScenario> = {
  "the address of a server": wrap((start) =>
    using(start, () => new Response(), ({ server, port }) => {
      const { transport, hostname, port: own } = server.addr as Deno.NetAddr;
      return Promise.resolve([transport, hostname, own === port]);
    })
  ),
  "a shutdown resolves, and a second one": wrap(async (start) => {
    const { server } = start(() => new Response());
    await within(20_000, Promise.all([server.shutdown(), server.shutdown()]));
    return [await outcome(server.finished), await outcome(server.shutdown())];
  }),
  "a server is disposed of": wrap(async (start) => {
    let finished: Promise<void>;
    {
      await using server = start(() => new Response()).server;
      finished = server.finished;
    }
    return await outcome(finished);
  }),
  "a server is not thenable": wrap((start) =>
    using(start, () => new Response(), async ({ server }) => {
      const same = await (Promise.resolve(server) as Promise<unknown>);
      return same === server;
    })
  ),
  "ref and unref return nothing": wrap((start) =>
    using(start, () => new Response(), ({ server }) => Promise.resolve([server.unref() ?? null, server.ref() ?? null]))
  ),
  "a shutdown lets a response end, and lets nobody in": wrap(async (start) => {
    const running = start(() => slowly("one", "two", "three"));
    using client = await RawClient.connect(running.port);
    await client.send("GET / HTTP/1.1", "Host: a", "");
    const head = await client.head();
    const finished = running.server.shutdown();
    const rest = await client.rest();
    await within(20_000, finished);
    const refused = await Deno.connect({ port: running.port }).then((conn) => conn.close(), () => "refused");
    return [head.slice(0, 12), rest.includes("three"), rest.endsWith("0\r\n\r\n"), refused ?? "connected"];
  }),
  "a shutdown lets a slow handler answer": wrap(async (start) => {
    const asked = Promise.withResolvers<void>();
    const running = start(async () => {
      asked.resolve();
      await sleep(50);
      return new Response("late");
    });
    using client = await RawClient.connect(running.port);
    await client.send("GET / HTTP/1.1", "Host: a", "");
    await within(20_000, asked.promise);
    const finished = running.server.shutdown();
    const rest = await client.rest();
    await within(20_000, finished);
    return [rest.slice(0, 12), rest.endsWith("late")];
  }),
  "a shutdown closes an idle connection": wrap(async (start) => {
    const running = start(() => new Response("answered"));
    using client = await RawClient.connect(running.port);
    const { status } = await client.get("/");
    await within(20_000, running.server.shutdown());
    return [status, await client.rest()];
  }),
  "a shutdown answers a request that is in flight": wrap(
    async (start) => {
      // On a busy machine, the connection may have been idle for too long by then.
      for (let tries = 0; tries < 5; tries++) {
        const running = start(() => new Response("answered"));
        using client = await RawClient.connect(running.port);
        await client.get("/");
        await client.send("GET / HTTP/1.1", "Host: a", "");
        await within(20_000, running.server.shutdown());
        if ((await client.rest()).startsWith("HTTP/1.1 200")) return true;
      }
      return false;
    },
    "`shutdown()` closes idle connections at once",
    "both",
  ),
  "a signal ends a response": wrap(async (start) => {
    const controller = new AbortController();
    const running = start(() => slowly("one", ..."x".repeat(100).split("")), { signal: controller.signal });
    using client = await RawClient.connect(running.port);
    await client.send("GET / HTTP/1.1", "Host: a", "");
    await client.head();
    controller.abort();
    const rest = await client.rest();
    return [rest.endsWith("0\r\n\r\n"), await outcome(running.server.finished)];
  }),
  "a signal that is aborted before": wrap(
    async (start) => {
      const { server } = start(() => new Response(), { signal: AbortSignal.abort() });
      const what = await outcome(server.finished, 500);
      await server.shutdown();
      return what;
    },
    "a signal that was aborted before",
    "both",
  ),
  "thirty requests at a time": wrap((start) =>
    using(start, async (request) => {
      await sleep(5);
      return new Response(new URL(request.url).pathname);
    }, async ({ url }) => {
      const asked = Array.from({ length: 30 }, (_, index) => fetch(`${url}/${index}`).then((answer) => answer.text()));
      return (await within(20_000, Promise.all(asked))).join();
    })
  ),
  "thirty requests on one connection": wrap((start) =>
    talking(start, () => new Response("again"), async (client) => {
      for (let count = 0; count < 30; count++) if ((await client.get("/")).body !== "again") return count;
      return "all";
    })
  ),
  "HTTP/2": wrap((start) =>
    using(start, () => new Response("two"), async ({ url }) => {
      const session = connectHttp2(url);
      session.on("error", () => {});
      const { promise, resolve } = Promise.withResolvers<unknown>();
      const request = session.request({ ":path": "/" });
      request.on("response", (headers) => resolve(headers[":status"])).on("error", () => resolve("failed"));
      request.on("close", () => resolve("closed")).end();
      const status = await within(20_000, promise);
      session.destroy();
      return status;
    }), "| HTTP/2 |"),
};

/** What the handler's promises and signals say of a client that leaves in the middle. */
function leaving(
  head: readonly string[],
  handler: (told: (what: unknown) => void) => Handler,
  options: Options = {},
): Run {
  return async (start) => {
    const told = Promise.withResolvers<unknown>();
    const asked = Promise.withResolvers<void>();
    const answer = handler(told.resolve);
    const running = start((...given) => {
      asked.resolve();
      return answer(...given);
    }, { onError: () => new Response("failed"), ...options });
    {
      using client = await RawClient.connect(running.port);
      await client.send(...head, "");
      await within(20_000, asked.promise);
      await sleep(20);
    }
    const what = await orNothing(told.promise, PATIENCE);
    await within(20_000, running.server.shutdown());
    return what;
  };
}

const GET = ["GET / HTTP/1.1", "Host: a"];
const UPLOAD = ["POST / HTTP/1.1", "Host: a", "Content-Length: 100", ""];

function endless(cancel: () => void = () => {}, headers: HeadersInit = {}): Response {
  const pull = async (controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>) => {
    await sleep(5);
    controller.enqueue(new Uint8Array(1_000));
  };
  return new Response(new ReadableStream({ pull, cancel }), { headers });
}

const CLIENTS: Record<string, ProgramScenario> = {
  "a client leaves: the stream is cancelled": wrap(leaving(GET, (told) => () => endless(() => told("cancelled")))),
  "a client leaves a compressed stream, which is cancelled": wrap(
    leaving(
      [...GET, "Accept-Encoding: gzip"],
      (told) => () => endless(() => told("cancelled"), { "content-type": "text/plain" }),
      { automaticCompression: true },
    ),
  ),
  "a client leaves: completed": wrap(
    leaving(GET, (told) => (_, { completed }) => {
      completed.then(() => told("resolved"), () => told("rejected"));
      return endless();
    }),
    "`info.completed` also resolves",
  ),
  "a client leaves: the signal is aborted": wrap(leaving(GET, (told) => (request) => {
    request.signal.addEventListener("abort", () => told([request.signal.aborted, nameOf(request.signal.reason)]));
    return endless();
  })),
  "a client leaves before the handler has returned: the signal is aborted": wrap(
    leaving(GET, (told) => async (request) => {
      const aborted = new Promise<void>((resolve) => request.signal.addEventListener("abort", () => resolve()));
      told(await outcome(aborted));
      return new Response("late");
    }),
  ),
  "a client leaves while its body is read": wrap(
    leaving(UPLOAD, (told) => async (request) => {
      await request.text().then(() => told("read"), (error) => told(nameOf(error)));
      return new Response();
    }),
    "reading the body of a client that leaves",
  ),
  "completed resolves": wrap((start) => {
    const told: Promise<unknown>[] = [];
    return talking(start, (_, { completed }) => {
      told.push(outcome(completed));
      return new Response("done");
    }, async (client) => [(await client.get("/")).status, await told[0]]);
  }),
  "completed of a stream resolves": wrap((start) => {
    const told: Promise<unknown>[] = [];
    return talking(start, (_, { completed }) => {
      told.push(outcome(completed));
      return slowly("a", "b");
    }, async (client) => [(await client.get("/")).body, await told[0]]);
  }),
  "a signal after the response": wrap((start) => {
    const signals: AbortSignal[] = [];
    return talking(start, (request) => {
      signals.push(request.signal);
      return new Response("done");
    }, async (client) => {
      await client.get("/");
      await sleep(20);
      return signals[0]!.aborted;
    });
  }, "`request.signal` is aborted after each response"),
  "a client that ends its side before the response": wrap((start) =>
    talking(start, async () => {
      await sleep(50);
      return new Response("late");
    }, async (client) => {
      await client.send("GET / HTTP/1.1", "Host: a", "");
      await client.conn.closeWrite();
      return (await client.rest()).slice(0, 12);
    }), "a client that ends its side while the handler works"),
  "the address of a client": wrap((start) =>
    talking(start, (_, { remoteAddr }) => {
      const { transport, hostname, port } = remoteAddr as Deno.NetAddr;
      return new Response(JSON.stringify([transport, hostname, typeof port]));
    }, async (client) => (await client.get("/")).body)
  ),
  "a client that waits to be told to send": wrap((start) =>
    talking(start, async (request) => new Response(await request.text()), async (client) => {
      await client.send("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Expect: 100-continue", "");
      const { status } = await client.response();
      await client.write("hello");
      return [status, (await client.response()).body];
    })
  ),
  "a client that waits to be told to send, and is refused": wrap(
    (start) =>
      talking(start, () => new Response("no", { status: 403 }), async (client) => {
        await client.send("POST / HTTP/1.1", "Host: a", "Content-Length: 5", "Expect: 100-continue", "");
        return (await client.response()).status;
      }),
    "a client that expects `100-continue`",
  ),
  "an answer before the body has come, which is read on": wrap((start) => {
    const read = Promise.withResolvers<string>();
    return talking(start, (request) => {
      request.text().then((text) => read.resolve(`${text.length}`), (error) => read.resolve(nameOf(error)));
      return new Response("accepted", { status: 202 });
    }, async (client) => {
      await client.send("POST / HTTP/1.1", "Host: a", "Content-Length: 300000", "");
      await client.write("x".repeat(100_000));
      await sleep(50);
      await client.write("x".repeat(200_000));
      const { status, body } = await client.response();
      return [status, body, await within(20_000, read.promise)];
    });
  }),
  "an answer of 408 while the body is read": wrap((start) => {
    const answered = Promise.withResolvers<void>();
    return talking(start, (request) => {
      const late = sleep(50).then(() => {
        answered.resolve();
        return new Response("too slow", { status: 408 });
      });
      return Promise.race([request.text().then((text) => new Response(text), () => new Response("gone")), late]);
    }, async (client) => {
      await client.send("POST / HTTP/1.1", "Host: a", "Content-Length: 300000", "");
      await client.write("x".repeat(100_000));
      await within(20_000, answered.promise);
      await client.write("x".repeat(200_000));
      const { status, body } = await client.response();
      return [status, body];
    });
  }),
  "an answer of 413 to a client that sends before it reads": wrap((start) =>
    talking(start, () => new Response("too much", { status: 413 }), async (client) => {
      await client.send("POST / HTTP/1.1", "Host: a", "Content-Length: 2000000", "");
      await client.write("x".repeat(2_000_000)).catch(() => {});
      return (await client.response()).status;
    })
  ),
  "a body that is announced, and too long": wrap(
    (start) =>
      talking(start, () => new Response("unread"), async (client) => {
        await client.send("POST / HTTP/1.1", "Host: a", "Content-Length: 200000000", "");
        return (await client.response()).status;
      }),
    "any number of bytes in a request's body",
    "both",
  ),
  "a body of a length, in pieces": wrap((start) =>
    talking(start, async (request) => new Response(await request.text()), async (client) => {
      for (const piece of ["POST / HT", "TP/1.1\r\nHost: a\r\nContent-Le", "ngth: 5\r\n\r", "\nhe", "llo"]) {
        await client.write(piece);
        await sleep(5);
      }
      return (await client.response()).body;
    })
  ),
};

const APPLICATIONS: Record<string, ProgramScenario> = {
  "a stream arrives as it is made": wrap((start) => {
    const go = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    return using(start, () =>
      new Response(ReadableStream.from((async function* () {
        yield encode("one");
        await go[0]!.promise;
        yield encode("two");
        await go[1]!.promise;
        yield encode("three");
      })())), async ({ url }) => {
      const reader = (await fetch(url)).body!.pipeThrough(new TextDecoderStream()).getReader();
      const seen: unknown[] = [];
      for (const { resolve } of go) {
        seen.push((await within(20_000, reader.read())).value);
        resolve();
      }
      seen.push((await within(20_000, reader.read())).value, (await reader.read()).done);
      return seen;
    });
  }),
  "a body goes and comes at the same time": wrap((start) =>
    using(start, (request) => new Response(request.body), async ({ url }) => {
      const { readable, writable } = new TransformStream<Uint8Array<ArrayBuffer>>();
      const writer = writable.getWriter();
      const asked = fetch(url, { method: "POST", body: readable });
      const seen: unknown[] = [];
      writer.write(encode("0"));
      const reader = (await within(20_000, asked)).body!.pipeThrough(new TextDecoderStream()).getReader();
      for (const part of ["1", "2"]) {
        seen.push((await within(20_000, reader.read())).value);
        writer.write(encode(part));
      }
      seen.push((await within(20_000, reader.read())).value);
      writer.close();
      seen.push((await within(20_000, reader.read())).done);
      return seen;
    })
  ),
  "an upload of a megabyte is counted": wrap((start) =>
    using(start, async (request) => new Response(`${(await request.arrayBuffer()).byteLength}`), async ({ url }) => {
      const answer = await fetch(url, { method: "POST", body: new Uint8Array(1_000_000) });
      return await answer.text();
    })
  ),
  "a download of a megabyte is whole": wrap((start) =>
    using(start, () => new Response(new Uint8Array(1_000_000).fill(7)), async ({ url }) => {
      const bytes = await (await fetch(url)).bytes();
      return [bytes.length, bytes.every((byte) => byte === 7)];
    })
  ),
  "a form with a file": wrap((start) =>
    using(start, async (request) => {
      const form = await request.formData();
      const file = form.get("file") as File;
      return new Response([form.get("name"), file.name, file.type, await file.text()].join());
    }, async ({ url }) => {
      const form = new FormData();
      form.set("name", "value");
      form.set("file", new File(["content"], "a.txt", { type: "text/plain" }));
      return await (await fetch(url, { method: "POST", body: form })).text();
    })
  ),
  "a proxy by fetch of its request": wrap((start) =>
    using(start, async (request) => {
      return Response.json([
        request.method,
        request.headers.get("x-a"),
        new URL(request.url).pathname,
        await request.text(),
      ]);
    }, (upstream) =>
      using(start, (request) => fetch(`${upstream.url}/up`, request), async ({ url }) => {
        const answer = await fetch(`${url}/down`, { method: "POST", body: "hello", headers: { "x-a": "b" } });
        return await answer.json();
      }))
  ),
  "a proxy of a stream": wrap((start) =>
    using(start, () => slowly("one", "two"), (upstream) =>
      using(start, async () => {
        const { body, status, headers } = await fetch(upstream.url);
        return new Response(body, { status, headers });
      }, async ({ url }) => await (await fetch(url)).text()))
  ),
  "a proxy that returns its upstream's response": wrap((start) =>
    using(
      start,
      () => new Response("up", { status: 201, headers: { "x-a": "b" } }),
      (upstream) =>
        using(start, () => fetch(upstream.url), async ({ url }) => {
          const answer = await fetch(url);
          return [answer.status, answer.headers.get("x-a"), await answer.text()];
        }),
    )
  ),
  "a redirection is followed": wrap((start) =>
    using(start, (request) => {
      return request.url.endsWith("/to") ? new Response("there") : Response.redirect(new URL("/to", request.url));
    }, async ({ url }) => {
      const answer = await fetch(`${url}/from`);
      return [answer.redirected, await answer.text()];
    })
  ),
  "a form of a URL": wrap((start) =>
    using(start, async (request) => new Response([...await request.formData()].join("&")), async ({ url }) => {
      return await (await fetch(url, { method: "POST", body: new URLSearchParams({ a: "b c", d: "" }) })).text();
    })
  ),
  "an unpacked body": wrap((start) =>
    using(start, async (request) => {
      return new Response(await new Response(request.body!.pipeThrough(new DecompressionStream("gzip"))).text());
    }, async ({ url }) => {
      const body = new Blob(["hello"]).stream().pipeThrough(new CompressionStream("gzip"));
      return await (await fetch(url, { method: "POST", body })).text();
    })
  ),
  "a file": wrap((start) =>
    using(start, async () => new Response((await Deno.open(new URL(import.meta.url))).readable), async ({ url }) => {
      return (await (await fetch(url)).text()).startsWith("// Programs that serve");
    })
  ),
  "events of a server": wrap((start) =>
    using(start, () => {
      const events = ReadableStream.from((async function* () {
        for (let id = 0; id < 3; id++) yield encode(`id: ${id}\ndata: x\n\n`);
      })());
      return new Response(events, { headers: { "content-type": "text/event-stream" } });
    }, async ({ url }) => {
      const answer = await fetch(url);
      return [answer.headers.get("content-type"), await answer.text()];
    })
  ),
  "a compressed stream arrives part by part": wrap((start) => {
    const go = Promise.withResolvers<void>();
    return using(start, () =>
      new Response(
        ReadableStream.from((async function* () {
          yield encode("first ");
          await go.promise;
          yield encode("second");
        })()),
        { headers: { "content-type": "text/plain" } },
      ), async ({ url }) => {
      const seen: unknown[] = [];
      for (const accepted of ["gzip", "br"]) {
        const answer = await fetch(url, { headers: { "accept-encoding": accepted } });
        const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
        seen.push((await within(20_000, reader.read())).value);
        go.resolve();
        for (let part; !(part = await within(20_000, reader.read())).done;) seen.push(part.value);
      }
      return seen.join("");
    }, { automaticCompression: true });
  }),
  "what is compressed arrives whole": wrap((start) => {
    const text = "a line that is long enough to be compressed\n".repeat(10_000);
    return using(start, () => new Response(text), async ({ url }) => {
      const answers = ["gzip", "br", "identity"].map(async (accepted) => {
        const answer = await fetch(url, { headers: { "accept-encoding": accepted } });
        return [answer.headers.get("content-encoding"), answer.headers.get("vary"), await answer.text() === text];
      });
      return await Promise.all(answers);
    }, { automaticCompression: true });
  }),
  "nothing is compressed if nothing is said": wrap((start) =>
    using(start, () => new Response("x".repeat(1_000)), async ({ url }) => {
      return (await fetch(url, { headers: { "accept-encoding": "gzip" } })).headers.get("content-encoding");
    })
  ),
};

/** What a client gets, and what onError is told, if a handler and an onError do something. */
const failing = (answer: Handler, onError: Options["onError"]): Run => (start) => {
  const told: string[] = [];
  return talking(start, answer, async (client) => {
    const { status, body } = await client.get("/");
    const { status: next } = await client.get("/");
    return [status, status === 500 ? "" : body, next, told];
  }, {
    onError: (error) => {
      told.push(typeof error === "string" ? error : nameOf(error));
      return onError?.(error);
    },
  });
};
const throws: Handler = () => {
  throw new RangeError("thrown");
};

const ERRORS: Record<string, ProgramScenario> = {
  "onError answers": wrap(failing(throws, () => new Response("sorry", { status: 503 }))),
  "onError answers later": wrap(failing(throws, async () => {
    await sleep(5);
    return new Response("sorry", { status: 503 });
  })),
  "onError answers with a stream": wrap(failing(throws, () => slowly("so", "rry"))),
  "onError throws": wrap(failing(throws, throws as () => never)),
  "onError rejects": wrap(failing(throws, () => Promise.reject(new Error("rejected")))),
  "onError answers with a number": wrap(failing(throws, () => 5)),
  "onError answers with what is used": wrap(failing(throws, async () => {
    const response = new Response("used");
    await response.text();
    return response;
  })),
  "a handler throws a string": wrap(failing(() => {
    throw "a string";
  }, () => new Response("sorry", { status: 503 }))),
  "a handler returns nothing": wrap(failing(() => undefined, () => new Response("sorry", { status: 503 }))),
  "a handler returns a number": wrap(failing(() => 5, () => new Response("sorry", { status: 503 }))),
  "a handler returns a promise of null": wrap(
    failing(() => Promise.resolve(null), () => new Response("sorry", { status: 503 })),
  ),
  "a handler returns one response twice": wrap((start) => {
    const once = new Response("once");
    return failing(() => once, () => new Response("sorry", { status: 503 }))(start);
  }),
  "a handler returns a promise of its own": wrap(failing(() => ({
    then: (resolve: (response: Response) => void) => resolve(new Response("thenable")),
  }), () => new Response("sorry", { status: 503 }))),
};

export const PROGRAMS: Record<string, ProgramScenario> = {
  ...WEB_SOCKETS,
  ...LIFE,
  ...CLIENTS,
  ...APPLICATIONS,
  ...ERRORS,
};
