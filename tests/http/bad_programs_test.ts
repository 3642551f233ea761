// Whatever a handler returns or throws, and whatever onError does then, the client is answered 500 and the server goes on.
import { assert, assertEquals } from "@std/assert";
import type { HttpHandler } from "@winsock/handoff/http";
import { canAdoptResource } from "../../sockets/conn_io.ts";
import { RawClient } from "../kit/http_client.ts";
import { eachEngine, start } from "../kit/http_server.ts";
import { until, within } from "../kit/process.ts";

const fail = (): never => {
  throw new Error("hostile");
};

/** An object with some properties that throw when they are looked at. */
function throwing(...names: string[]): object {
  const object = {};
  for (const name of names) Object.defineProperty(object, name, { get: fail });
  return object;
}

function stream(...chunks: unknown[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  return ReadableStream.from(chunks) as ReadableStream<Uint8Array<ArrayBuffer>>;
}

const plain = { status: 200, statusText: "", headers: new Headers(), body: null, bodyUsed: false };

/** Like a Response, with something else in it. */
const like = (other: object): unknown => Object.defineProperties({ ...plain }, Object.getOwnPropertyDescriptors(other));

/** What is not a response, or one that cannot be sent. */
const VALUES: Record<string, () => unknown> = {
  "nothing": () => undefined,
  "null": () => null,
  "text": () => "hello",
  "a number": () => 200,
  "a symbol": () => Symbol("response"),
  "a bigint": () => 1n,
  "a function": () => () => new Response(),
  "an object": () => ({}),
  "an array": () => [new Response()],
  "a request": () => new Request("http://a"),
  "an error": () => new Error("returned"),
  "Response.error()": () => Response.error(),
  "an object with Response's prototype": () => Object.create(Response.prototype),
  "an object with Response's prototype and a body that throws": () =>
    Object.create(Response.prototype, { body: { get: fail } }),
  "a frozen object with Response's prototype": () => Object.freeze(Object.create(Response.prototype)),
  "a body that throws": () =>
    like({
      get body() {
        return fail();
      },
    }),
  "a bodyUsed that throws": () =>
    like({
      get bodyUsed() {
        return fail();
      },
    }),
  "a status that throws": () =>
    like({
      get status() {
        return fail();
      },
    }),
  "headers that throw": () =>
    like({
      get headers() {
        return fail();
      },
    }),
  "a statusText that throws": () =>
    like({
      get statusText() {
        return fail();
      },
    }),
  "everything throws": () => throwing("status", "statusText", "headers", "body", "bodyUsed", "then"),
  "a then that throws": () => throwing("then"),
  "a then that rejects": () => ({ then: (_: unknown, reject: (error: unknown) => void) => reject("rejected") }),
  "a status of text": () => like({ status: "hello" }),
  "a status of 99": () => like({ status: 99 }),
  "a status of 101": () => like({ status: 101 }),
  "no headers": () => like({ headers: undefined }),
  "headers that cannot be walked": () => like({ headers: {} }),
  "headers with an end of line": () => like({ headers: new Map([["x", "a\r\nb: c"]]) }),
  "headers whose name is none": () => like({ headers: new Map([["a b", "c"]]) }),
  "headers that throw as they are walked": () => like({ headers: { forEach: fail } }),
  "a statusText with an end of line": () => like({ statusText: "a\r\nb" }),
  "a body that is none": () => like({ body: {} }),
  "a body whose reader throws": () => like({ body: { getReader: fail } }),
  "a body whose reader is none": () => like({ body: { getReader: () => ({}) } }),
  "a reader that gives nothing": () => like({ body: { getReader: () => ({ read: () => undefined }) } }),
  "a reader that throws": () => like({ body: { getReader: () => ({ read: fail, cancel: fail }) } }),
  "a reader that rejects": () => like({ body: { getReader: () => ({ read: () => Promise.reject("no"), cancel: 1 }) } }),
  "a Proxy that throws": () =>
    new Proxy(new Response(), { get: fail, has: fail, getPrototypeOf: fail, getOwnPropertyDescriptor: fail }),
  "a revoked Proxy": () => {
    const { proxy, revoke } = Proxy.revocable(new Response(), {});
    revoke();
    return proxy;
  },
  ...Object.fromEntries(
    ["\x01", "\x08", "\x0b", "\x1f", "\x7f"].flatMap((character) => {
      const name = `the character ${character.charCodeAt(0)}`;
      return [
        [`${name} in a header`, () => new Response("x", { headers: { "x-echo": `a${character}b` } })],
        [`${name} in the content-type`, () => new Response("x", { headers: { "content-type": character } })],
        [`${name} in a header of a stream`, () => new Response(stream(), { headers: { "x-echo": character } })],
        [`${name} in a header that is set later`, () => {
          const response = Response.json({});
          response.headers.append("x-echo", character);
          return response;
        }],
        [`${name} in a header of nothing`, () => new Response(null, { status: 204, headers: { "x-echo": character } })],
        [`${name} in a header of what is not Deno's`, () => like({ headers: new Map([["x", character]]) })],
      ];
    }),
  ),
  "a locked body": () => {
    const response = new Response(stream(new Uint8Array(1)));
    response.body!.getReader();
    return response;
  },
  "a used body": () => {
    const response = new Response("used");
    response.text();
    return response;
  },
};

/** Streams that fail before anything of them is sent: Deno's server has sent the headers by then. */
const STREAMS: Record<string, () => unknown> = {
  "a stream that fails as it starts": () =>
    new Response(new ReadableStream({ start: () => Promise.reject(new Error("no")) })),
  "a stream that fails as it is pulled": () => new Response(new ReadableStream({ pull: fail })),
  "a stream that fails with nothing": () => new Response(new ReadableStream({ pull: () => Promise.reject() })),
  "a stream of text": () => new Response(stream("hello")),
  "a stream of nothing": () => new Response(stream(undefined)),
  "a stream of objects": () => new Response(stream({ length: 5 })),
  "a stream of streams": () => new Response(stream(stream())),
  "a stream whose cancel throws": () => new Response(new ReadableStream({ pull: fail, cancel: fail })),
};

/** What is thrown. */
const ERRORS: Record<string, () => unknown> = {
  "an error": () => new Error("thrown"),
  "nothing": () => undefined,
  "null": () => null,
  "a response": () => new Response("thrown", { status: 200 }),
  "an error without a name": () => Object.create(null),
  "an error that throws when it is looked at": () =>
    Object.defineProperties(new Error(), {
      name: { get: fail },
      message: { get: fail },
      stack: { get: fail },
      code: { get: fail },
    }),
  "an error that cannot be printed": () => ({ [Symbol.for("Deno.customInspect")]: fail, toString: fail }),
  "a Proxy that throws": () => new Proxy({}, { get: fail, has: fail, getPrototypeOf: fail, ownKeys: fail }),
};

/** Lets a server answer with something wrong in four ways, and sees that it is answered 500 and goes on. */
async function answers500(
  engine: "node:http" | "Deno.serve",
  handlers: Record<string, HttpHandler>,
  onError: (error: unknown) => unknown = () => {},
): Promise<void> {
  let told = 0;
  await using served = start((request, info) => {
    if (new URL(request.url).pathname === "/next") return new Response("in step");
    return handlers[decodeURIComponent(new URL(request.url).search.slice(1))]!(request, info);
  }, {
    engine,
    onError: (error) => {
      told++;
      return onError(error) as Response;
    },
  });
  for (const name of Object.keys(handlers)) {
    told = 0;
    using client = await RawClient.connect(served.port);
    const { status } = await within(10_000, client.get(`/?${encodeURIComponent(name)}`));
    assertEquals(status, 500, name);
    assert(told > 0, `${name}: onError was not told`);
    using other = await RawClient.connect(served.port);
    assertEquals((await within(10_000, other.get("/next"))).body, "in step", name);
  }
}

function returning(values: Record<string, () => unknown>): Record<string, HttpHandler> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, make]) => [
      [`${name}, at once`, () => make() as Response],
      [`${name}, later`, async () => await make() as Response],
      [
        `${name}, in a moment`,
        () => new Promise<Response>((resolve) => setTimeout(() => resolve(make() as Response), 1)),
      ],
    ]),
  );
}

eachEngine("a handler that returns what is not a response is answered 500, and onError is told", async (engine) => {
  await answers500(engine, returning(VALUES));
});

Deno.test("node:http: a stream that fails before any of it is sent is answered 500, and onError is told", async () => {
  await answers500("node:http", returning(STREAMS));
});

Deno.test({
  name: "Deno.serve: headers that a class of the program's own hides are looked at, too",
  ignore: !canAdoptResource(),
  async fn() {
    class Hidden extends Response {
      override get headers(): Headers {
        return new Headers();
      }
    }
    await answers500("Deno.serve", {
      "a hidden header": () => new Hidden("x", { headers: { "x-echo": "\x01" } }),
      "a hidden type": () => new Hidden("x", { headers: { "content-type": "\x01" } }),
    });
  },
});

eachEngine("a handler that throws is answered 500, whatever it throws", async (engine) => {
  const handlers: Record<string, HttpHandler> = {};
  for (const [name, make] of Object.entries(ERRORS)) {
    handlers[`${name}, at once`] = () => {
      throw make();
    };
    handlers[`${name}, later`] = () => Promise.reject(make());
  }
  await answers500(engine, handlers);
});

/** Runs without the output of what is expected to be complained of. */
async function silently(test: () => Promise<void>): Promise<void> {
  const { error } = console;
  console.error = () => {};
  try {
    await test();
  } finally {
    console.error = error;
  }
}

eachEngine("an onError that returns what is not a response, or throws, is answered 500", async (engine) => {
  await silently(async () => {
    for (const make of Object.values(VALUES)) await answers500(engine, { "it throws": fail }, make);
    for (const make of Object.values(ERRORS)) {
      await answers500(engine, { "it throws": fail }, () => {
        throw make();
      });
      await answers500(engine, { "it throws": fail }, () => Promise.reject(make()));
    }
  });
});

Deno.test("node:http: an onError whose response fails as a stream is answered 500", async () => {
  await silently(async () => {
    for (const make of Object.values(STREAMS)) await answers500("node:http", { "it throws": fail }, make);
  });
});

eachEngine("a stream that fails in the middle ends the connection, whatever it fails with", async (engine) => {
  for (const [name, make] of Object.entries(ERRORS)) {
    // Deno's own streams look at what they fail with, and do not survive it; Deno.serve waits for ever.
    if (name === "a Proxy that throws" || engine === "Deno.serve" && name.startsWith("an error that throws")) continue;
    let told = 0;
    await using served = start(() => {
      const body = new ReadableStream({
        async pull(controller) {
          controller.enqueue(new Uint8Array(10));
          await new Promise((resolve) => setTimeout(resolve, 20));
          throw make();
        },
      });
      return new Response(body);
    }, { engine, onError: () => void told++ });
    using client = await RawClient.connect(served.port);
    await client.send("GET / HTTP/1.1", "Host: a", "");
    assert(!(await within(10_000, client.rest())).endsWith("0\r\n\r\n"), "it is not all");
    await until(() => told > 0, "onError is told");
    assertEquals(told, 1);
  }
});
