/** The A form of WSADuplicateSocket, which the library itself does not need: to have real blobs of it. */
import { WSAPROTOCOL_INFOA } from "@winsock/handoff/structs";

/** A blob of 372 bytes, for this process. */
export function duplicateSocketA(s: bigint): Uint8Array<ArrayBuffer> {
  using ws2_32 = Object.assign(
    Deno.dlopen("C:\\Windows\\System32\\ws2_32.dll", {
      WSADuplicateSocketA: { parameters: ["usize", "u32", "buffer"], result: "i32" },
    }),
    { [Symbol.dispose]: () => ws2_32.close() },
  );
  const info = new Uint8Array(WSAPROTOCOL_INFOA.size);
  const result = ws2_32.symbols.WSADuplicateSocketA(s, Deno.pid, info);
  if (result !== 0) throw new Error(`WSADuplicateSocketA failed with ${result}`);
  return info;
}
