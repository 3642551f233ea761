/**
 * What TLS is given of a stream that is none of Deno's own.
 *
 * @module
 */
import type { Socket as NodeSocket } from "node:net";
import { Duplex } from "node:stream";
import { setImmediate } from "node:timers";

/**
 * A stream with nothing to read yet: Deno's TLS takes what is there before it has begun in a way that throws, in the event
 * loop, if it is no TLS.
 *
 * @param stream What it reads, from the next turn on, and writes.
 */
export function lateStream(stream: NodeSocket): NodeSocket {
  let begun = false;
  const late = new Duplex({
    allowHalfOpen: true,
    read: () => void (begun && stream.resume()),
    write: (chunk, encoding, done) => void stream.write(chunk, encoding, done),
    final: (done) => void stream.end(done),
    destroy(error, done) {
      stream.destroy();
      done(error);
    },
  });
  stream.once("close", () => late.destroy());
  setImmediate(() => {
    begun = true;
    stream.on("data", (bytes) => void (late.push(bytes) || stream.pause()));
    stream.on("end", () => late.push(null));
  });
  return late as unknown as NodeSocket;
}
