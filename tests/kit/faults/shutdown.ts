/** Ending both directions of a socket, whoever has it: the nearest to closing it behind its owner's back. */
import { LIBRARY_PATHS } from "@winsock/handoff";
import { openLibrary } from "../../../ffi/library.ts";

const BOTH = 2;

export function shutDown(s: bigint): void {
  const paths = Deno.build.os === "windows" ? [LIBRARY_PATHS[0]!] : LIBRARY_PATHS;
  const { shutdown } = openLibrary(paths, { shutdown: { parameters: ["usize", "i32"], result: "i32" } });
  const result = shutdown(s, BOTH);
  if (result !== 0) throw new Error(`shutdown failed with ${result}`);
}
