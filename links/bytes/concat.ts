/** `concat` of `@std/bytes`, where JSR cannot be reached. */
import * as std from "npm:deno-std@1.4.0/bytes/concat.js";

export const concat: (buffers: readonly Uint8Array[]) => Uint8Array<ArrayBuffer> = std.concat;
