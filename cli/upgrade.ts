/**
 * `deno run … @winsock/handoff/cli upgrade FILE`: has a running server replace itself.
 *
 * @module
 */
import { requestUpgrade } from "../handoff/upgrade/requests.ts";
import type { Terminal } from "./terminal.ts";

/** Asks the server that wrote the control file, and says how it went. */
export async function upgrade(terminal: Terminal, controlFile: string, json: boolean): Promise<number> {
  const result = await requestUpgrade(controlFile);
  const remaining = result.remaining === 0
    ? ""
    : `; ${result.remaining} connections of the old version were still open`;
  terminal.print(json ? JSON.stringify(result) : `Process ${result.processId} serves now${remaining}`);
  return 0;
}
