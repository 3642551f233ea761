/**
 * The headers of a request as they came: names and values in turn.
 *
 * @module
 */

/** Where lines of that name, which is in lower case, begin. */
function linesOf(rawHeaders: readonly string[], name: string): number[] {
  const lines: number[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const key = rawHeaders[at]!;
    if (key.length === name.length && key.toLowerCase() === name) lines.push(at);
  }
  return lines;
}

/** Whether there are several hosts, of which Node would take the first, and what stands before it perhaps another. */
export function hasSeveralHosts(rawHeaders: readonly string[]): boolean {
  return linesOf(rawHeaders, "host").length > 1;
}

/** Makes one line of several with cookies, for they are not joined as other headers are. */
export function joinCookies(rawHeaders: string[]): void {
  const [first, ...others] = linesOf(rawHeaders, "cookie");
  if (first === undefined) return;
  for (const at of others) rawHeaders[first + 1] += `; ${rawHeaders[at + 1]}`;
  for (const at of others.reverse()) rawHeaders.splice(at, 2);
}
