/**
 * What the entry points export, as `deno doc` tells it.
 *
 * @module
 */
import project from "../../deno.json" with { type: "json" };

interface Named {
  readonly name: string;
}

interface Documented extends Named {
  readonly declarations: readonly {
    readonly kind: string;
    readonly def?: {
      readonly properties?: readonly Named[];
      readonly methods?: readonly Named[];
      readonly extends?: unknown;
    };
  }[];
}

/** An exported name. */
export interface Exported {
  /** `class`, `interface`, `function`, `variable`, `typeAlias`. */
  readonly kind: string;
  /** Properties and methods of a class or interface. */
  readonly members: ReadonlySet<string>;
}

/** Entry point → exported name → what it is. */
export type Exports = ReadonlyMap<string, ReadonlyMap<string, Exported>>;

/** Asks `deno doc`. */
export async function readExports(): Promise<Exports> {
  const entries = Object.entries(project.exports);
  const command = new Deno.Command(Deno.execPath(), { args: ["doc", "--json", ...entries.map(([, path]) => path)] });
  const { stdout } = await command.output();
  const { nodes }: { nodes: Record<string, { symbols: Documented[] }> } = JSON.parse(new TextDecoder().decode(stdout));
  const symbolsOf = (path: string) => Object.entries(nodes).find(([url]) => url.endsWith(path.slice(1)))![1].symbols;
  return new Map(entries.map(([name, path]) => [name, new Map(symbolsOf(path).map(describe))]));
}

function describe({ name, declarations }: Documented): [string, Exported] {
  const defs = declarations.map(({ def }) => def);
  const members = defs.flatMap((def) => [...def?.properties ?? [], ...def?.methods ?? []].map(({ name }) => name));
  return [name, { kind: declarations[0]!.kind, members: new Set(members) }];
}
