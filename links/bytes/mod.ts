/** The functions of `@std/bytes` this project uses, where JSR cannot be reached. */
import * as std from "npm:deno-std@1.4.0/bytes/mod.js";

export const concat: (buffers: readonly Uint8Array[]) => Uint8Array<ArrayBuffer> = std.concat;
export const equals: (a: Uint8Array, b: Uint8Array) => boolean = std.equals;
