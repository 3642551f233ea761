// Clients that say nothing cost nothing, and hold up nothing: a short run of bench/idle_clients.ts.
import { assert } from "@std/assert";
import { measureIdle } from "../../bench/idle_clients.ts";
import { within } from "../kit/process.ts";

/** Far below the time that operations wait for a thread if each idle client holds one for 50 ms at a time. */
const MAX_MS = 100;
/** In percent of a processor. A timer of 5 ms for each client takes more than 100. */
const MAX_CPU = 25;

Deno.test("beside idle clients everything is answered in less than 100 ms, and waiting costs no processor time", async () => {
  const clients = Deno.build.os === "windows" ? 150 : 400;
  const { rows, cpu } = await within(60_000, measureIdle(clients, 15, 500));
  for (const { operation, median } of rows) assert(median < MAX_MS, `${operation} takes ${median} ms`);
  assert(cpu < MAX_CPU, `${cpu} % of a processor`);
});
