/**
 * Putting something before each line a process prints.
 *
 * @module
 */
import { concat } from "@std/bytes/concat";

const NEWLINE = 10;
/** Longest line kept together, in bytes; a longer one is passed on in pieces of this size. */
const MAX_LINE = 64 * 1024;

/** Passes lines on, whole, each behind the prefix. Bytes are not looked into. */
export function prefixLines(prefix: string): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  const start = new TextEncoder().encode(prefix);
  let rest = new Uint8Array(0);
  return new TransformStream({
    transform(chunk, controller) {
      rest = concat([rest, chunk]);
      const lines: Uint8Array[] = [];
      for (let end = lineEnd(rest); end > 0; end = lineEnd(rest)) {
        lines.push(start, rest.subarray(0, end));
        rest = rest.subarray(end);
      }
      if (lines.length > 0) controller.enqueue(concat(lines));
    },
    flush(controller) {
      if (rest.byteLength > 0) controller.enqueue(concat([start, rest, Uint8Array.of(NEWLINE)]));
    },
  });
}

/** Where the first line ends, behind its newline; 0 if it does not yet. */
function lineEnd(bytes: Uint8Array): number {
  const end = bytes.indexOf(NEWLINE) + 1;
  return end === 0 && bytes.byteLength >= MAX_LINE ? MAX_LINE : end;
}
