// Makes connections, one number on each, and says in the end how each fared: PORT CONNECTIONS IN_FLIGHT.
export interface ClientReport {
  /** Connections answered once, with their own number. */
  answered: number;
  /** Connections answered twice, or with what is not theirs. */
  wrong: string[];
  /** Connections that ended without an answer: the local port, and which use of it. */
  dropped: string[];
}

const TIME_LIMIT_MS = 30_000;

if (import.meta.main) {
  const [port, connections, inFlight] = Deno.args.map(Number) as [number, number, number];
  const report: ClientReport = { answered: 0, wrong: [], dropped: [] };
  const uses = new Map<number, number>();
  let next = 0;
  const one = async (): Promise<void> => {
    while (next < connections) {
      const id = next++;
      const conn = await Deno.connect({ hostname: "127.0.0.1", port });
      const local = (conn.localAddr as Deno.NetAddr).port;
      const use = (uses.get(local) ?? 0) + 1;
      uses.set(local, use);
      const timer = setTimeout(() => conn.close(), TIME_LIMIT_MS);
      const answer = await exchange(conn, id);
      clearTimeout(timer);
      if (answer === "") report.dropped.push(`${local}#${use}`);
      else if (new RegExp(`^${id} \\d+ \\d+\n$`).test(answer)) report.answered++;
      else report.wrong.push(`${local}#${use}: ${JSON.stringify(answer)} to ${id}`);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, one));
  console.log(JSON.stringify(report));
}

/** What comes back until the server has answered once, and whatever else it says before it has seen our end. */
async function exchange(conn: Deno.Conn, id: number): Promise<string> {
  let answer = "";
  try {
    await conn.write(new TextEncoder().encode(`${id}\n`));
    const buffer = new Uint8Array(128);
    for (let length = await conn.read(buffer); length !== null; length = await conn.read(buffer)) {
      answer += new TextDecoder().decode(buffer.subarray(0, length));
      if (answer.endsWith("\n")) (conn as Deno.TcpConn).closeWrite().catch(() => {});
    }
    conn.close();
  } catch {
    try {
      conn.close();
    } catch {
      // closed by its time limit
    }
  }
  return answer.endsWith("\n") ? answer : "";
}
