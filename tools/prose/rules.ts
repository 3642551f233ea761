/**
 * The phrases that documentation, comments and error messages should not use.
 *
 * @module
 */

/** A phrase that is not plain English, and the advice for it. */
export interface ProseRule {
  readonly name: string;
  /** Matches within a paragraph. A space also matches the end of a line. */
  readonly pattern: RegExp;
  readonly advice: string;
}

export const RULES: readonly ProseRule[] = [
  {
    name: "whoever",
    pattern: /\bwhom?ever\b/i,
    advice: "name who or what it is: the source, the target, the caller",
  },
  {
    name: "nobody",
    pattern: /\bnobody(?:'s)?\b/i,
    advice: "say which process, or use the passive: “is not read”",
  },
  {
    name: "is-no",
    pattern: /(?<!\bthere\s+)\b(?:is|are|was|were)\s+no\b(?!\s+(?:longer|more|less|fewer|later)\b)/i,
    advice: "“is not a”",
  },
  {
    name: "is-none",
    pattern: /\b(?:is|are|was|were)\s+none\b/i,
    advice: "“does not exist”, or “there is no …”",
  },
  {
    name: "given-up",
    pattern: /\bgiven\s+up\b/i,
    advice: "“released”, “closed” or “cancelled”",
  },
  {
    name: "on-its-way",
    pattern: /\bon\s+(?:its|their)\s+way\b/i,
    advice: "“in flight” or “sent”",
  },
  {
    name: "one-word-param",
    pattern: /@param\s+[\w.[\]]+\s+\w+\.(?=\s|$)/,
    advice: "say what the parameter is, not only “How.”",
  },
  {
    name: "example-title",
    pattern: /@example\s*$/,
    advice: "say after `@example` what the example shows",
  },
];
