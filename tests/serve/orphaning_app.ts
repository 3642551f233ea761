// A module for `handoff serve`: says who answers, waits when it is asked to, and leaves a program behind.
let waiting = 0;

export default {
  async fetch(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === "/orphan") {
      // The shell ends at once, and what it has started has no parent then.
      await new Deno.Command("sh", { args: ["-c", "sleep 0.1 &"], stdin: "null", stdout: "null" }).output();
      return new Response("left");
    }
    if (pathname === "/slow") {
      waiting++;
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
    return new Response(pathname === "/waiting" ? String(waiting) : String(Deno.pid));
  },
};
