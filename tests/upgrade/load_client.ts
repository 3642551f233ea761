// Requests without pause, half of the clients over connections that are kept: PORT CLIENTS. Ends when stdin ends, and
// then says how each request fared.
import http from "node:http";

/** One request. */
export interface Sample {
  /** When it began, as `Date.now()` tells time. */
  at: number;
  milliseconds: number;
  /** Empty if all is well; otherwise the error. */
  problem: string;
  kept: boolean;
}

if (import.meta.main) {
  const [port, clients] = Deno.args.map(Number) as [number, number];
  const samples: Sample[] = [];
  let stop = false;
  const client = async (kept: boolean) => {
    const agent = new http.Agent({ keepAlive: kept, maxSockets: 1 });
    while (!stop) {
      const at = Date.now();
      const start = performance.now();
      const problem = await request(port, agent);
      samples.push({ at, milliseconds: performance.now() - start, problem, kept });
    }
    agent.destroy();
  };
  const running = Promise.all(Array.from({ length: clients }, (_, index) => client(index % 2 === 0)));
  console.log("started");
  await Deno.stdin.read(new Uint8Array(1));
  stop = true;
  await running;
  console.log(JSON.stringify(samples));
}

function request(port: number, agent: http.Agent): Promise<string> {
  return new Promise((resolve) => {
    const sent = http.get({ host: "127.0.0.1", port, agent, timeout: 20_000 }, (response) => {
      let length = 0;
      response.on("data", (chunk) => length += chunk.length);
      response.on("end", () => resolve(response.complete && length > 2_000 ? "" : "incomplete response"));
      response.on("error", (error) => resolve(String(error)));
    });
    sent.on("timeout", () => sent.destroy(new Error("no answer in 20 s")));
    sent.on("error", (error: Error & { code?: string }) => resolve(error.code ?? String(error)));
  });
}
