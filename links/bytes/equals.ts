/** `equals` of `@std/bytes`, where JSR cannot be reached. */
import * as std from "npm:deno-std@1.4.0/bytes/equals.js";

export const equals: (a: Uint8Array, b: Uint8Array) => boolean = std.equals;
