/** Pipes of the system, as descriptors that nothing owns. */
import { newPipe } from "../../ffi/unix/descriptors.ts";

/** Makes a pipe: on Windows the HANDLEs, elsewhere the descriptors. */
export function makePipe(): [readable: bigint, writable: bigint] {
  return Deno.build.os === "windows" ? createPipe() : newPipe("make a pipe");
}

function createPipe(): [bigint, bigint] {
  using library = openKernel32();
  const ends = new BigUint64Array(2);
  const made = library.symbols.CreatePipe(ends.subarray(0, 1), ends.subarray(1), 0n, 0);
  if (made === 0) throw new Error("CreatePipe failed");
  return [ends[0]!, ends[1]!];
}

function openKernel32() {
  const library = Deno.dlopen("C:\\Windows\\System32\\kernel32.dll", {
    CreatePipe: { parameters: ["buffer", "buffer", "usize", "u32"], result: "i32" },
  });
  return { symbols: library.symbols, [Symbol.dispose]: () => library.close() };
}
