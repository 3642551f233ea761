/**
 * Reads the exports of an entry point from `deno doc --json`.
 *
 * @module
 */
import { ENTRY_POINTS } from "../module_graph.ts";

/** An exported name and its declarations. A function has one declaration for each overload. */
export interface Exported {
  readonly name: string;
  readonly declarations: readonly Declaration[];
}

/** A declaration. The type of `def` depends on `kind`. */
export type Declaration =
  & { readonly jsDoc?: JsDoc }
  & (
    | { readonly kind: "function"; readonly def: FunctionDef }
    | { readonly kind: "variable"; readonly def: { readonly kind: string; readonly tsType?: TsType } }
    | { readonly kind: "typeAlias"; readonly def: { readonly typeParams?: TypeParam[]; readonly tsType: TsType } }
    | { readonly kind: "class"; readonly def: ClassDef }
    | { readonly kind: "interface"; readonly def: InterfaceDef }
    | { readonly kind: "enum"; readonly def: { readonly members: readonly { name: string; init?: TsType }[] } }
    | { readonly kind: "namespace"; readonly def: { readonly elements: readonly Exported[] } }
  );

/** The tags of a comment. */
export interface JsDoc {
  readonly tags?: readonly { readonly kind: string }[];
}

/** A function, or another declaration with parameters. */
export interface FunctionDef {
  readonly typeParams?: readonly TypeParam[];
  readonly params: readonly Param[];
  readonly returnType?: TsType;
  readonly hasBody?: boolean;
}

/** The properties that all kinds of members have. */
export interface MemberDef {
  readonly name: string;
  readonly jsDoc?: JsDoc;
  readonly accessibility?: "public" | "protected" | "private";
  readonly isStatic?: boolean;
  readonly isAbstract?: boolean;
  readonly optional?: boolean;
}

export interface PropertyDef extends MemberDef {
  readonly readonly?: boolean;
  readonly tsType?: TsType;
}

export interface MethodDef extends MemberDef {
  readonly kind: "method" | "getter" | "setter";
  readonly functionDef: FunctionDef;
}

export interface ConstructorDef extends MemberDef, FunctionDef {
  /** The parameters. Those with an accessibility modifier are also properties. */
  readonly params:
    readonly (Param & { readonly accessibility?: MemberDef["accessibility"]; readonly readonly?: true })[];
}

export interface IndexSignature {
  readonly readonly?: boolean;
  readonly params: readonly Param[];
  readonly tsType?: TsType;
}

export interface ClassDef {
  readonly isAbstract?: boolean;
  readonly typeParams?: readonly TypeParam[];
  readonly extends?: string;
  readonly superTypeParams?: readonly TsType[];
  readonly implements?: readonly TsType[];
  readonly constructors?: readonly ConstructorDef[];
  readonly properties?: readonly PropertyDef[];
  readonly methods?: readonly MethodDef[];
  readonly indexSignatures?: readonly IndexSignature[];
}

/** The members of an interface or a type literal. */
export interface TypeLiteral {
  readonly properties?: readonly PropertyDef[];
  readonly methods?: readonly (MemberDef & FunctionDef & { readonly kind: MethodDef["kind"] })[];
  readonly constructors?: readonly FunctionDef[];
  readonly callSignatures?: readonly (FunctionDef & { readonly tsType?: TsType })[];
  readonly indexSignatures?: readonly IndexSignature[];
}

export interface InterfaceDef extends TypeLiteral {
  readonly typeParams?: readonly TypeParam[];
  readonly extends?: readonly TsType[];
}

export interface TypeParam {
  readonly name: string;
  readonly constraint?: TsType;
  readonly default?: TsType;
}

/** A parameter. */
export type Param =
  | { readonly kind: "identifier"; readonly name: string; readonly optional: boolean; readonly tsType?: TsType }
  | { readonly kind: "object" | "array"; readonly optional: boolean; readonly tsType?: TsType }
  | { readonly kind: "rest"; readonly arg: Param; readonly tsType?: TsType }
  | { readonly kind: "assign"; readonly left: Param; readonly tsType?: TsType };

/** A type. */
export type TsType =
  | { readonly kind: "keyword" | "typeQuery"; readonly value: string }
  | { readonly kind: "this" }
  | { readonly kind: "literal"; readonly value: Literal }
  | { readonly kind: "typeRef"; readonly value: { readonly typeName: string; readonly typeParams?: readonly TsType[] } }
  | { readonly kind: "union" | "intersection" | "tuple"; readonly value: readonly TsType[] }
  | { readonly kind: "array" | "optional" | "rest" | "parenthesized"; readonly value: TsType }
  | { readonly kind: "typeOperator"; readonly value: { readonly operator: string; readonly tsType: TsType } }
  | { readonly kind: "indexedAccess"; readonly value: { readonly objType: TsType; readonly indexType: TsType } }
  | { readonly kind: "infer"; readonly value: { readonly typeParam: TypeParam } }
  | { readonly kind: "typeLiteral"; readonly value: TypeLiteral }
  | {
    readonly kind: "fnOrConstructor";
    readonly value: Omit<FunctionDef, "returnType"> & { readonly constructor: boolean; readonly tsType: TsType };
  }
  | {
    readonly kind: "conditional";
    readonly value: Readonly<Record<"checkType" | "extendsType" | "trueType" | "falseType", TsType>>;
  }
  | {
    readonly kind: "importType";
    readonly value: {
      readonly specifier: string;
      readonly qualifier?: string;
      readonly typeParams?: readonly TsType[];
    };
  }
  | {
    readonly kind: "mapped";
    readonly value: {
      readonly readonly?: Modifier;
      readonly typeParam: TypeParam;
      readonly nameType?: TsType;
      readonly optional?: Modifier;
      readonly tsType?: TsType;
    };
  }
  | {
    readonly kind: "typePredicate";
    readonly value: {
      readonly asserts?: boolean;
      readonly param: { readonly type: "identifier" | "this"; readonly name?: string };
      readonly type?: TsType;
    };
  };

/** The modifier `readonly` or `?` of a mapped type, with its sign if it has one. */
export type Modifier = boolean | "+" | "-";

export type Literal =
  | { readonly kind: "string"; readonly string: string }
  | { readonly kind: "number"; readonly number: number }
  | { readonly kind: "bigInt"; readonly string: string }
  | { readonly kind: "boolean"; readonly boolean: boolean }
  | { readonly kind: "template"; readonly tsTypes: readonly TsType[] };

/** An entry point → its exports. */
export type Api = ReadonlyMap<string, readonly Exported[]>;

/** Reads the exports of all entry points from `deno doc`. */
export async function readApi(): Promise<Api> {
  const entries = [...ENTRY_POINTS].map(async ([name, path]) => [name, await readExports(path)] as const);
  return new Map(await Promise.all(entries));
}

/** Reads the exports of a module. Re-exported names are included completely. */
export async function readExports(path: string): Promise<Exported[]> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: ["doc", "--json", path] })
    .output();
  const text = new TextDecoder();
  if (!success) throw new Error(`deno doc ${path} failed:\n${text.decode(stderr)}`);
  const { version, nodes } = JSON.parse(text.decode(stdout));
  if (version !== 2) throw new Error(`deno doc has another format, ${version}`);
  const [{ symbols }] = Object.values(nodes) as [{ symbols: Exported[] }];
  return symbols;
}
