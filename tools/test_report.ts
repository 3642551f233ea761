/** Reading the report that `deno test --junit-path` writes: what passed and failed, by file. */
import { parseXml, type XmlElement } from "npm:@rgrove/parse-xml@^5.0.0";

/** A test that failed, and why. */
export interface TestFailure {
  readonly test: string;
  /** The message of the error, which may have several lines. */
  readonly message: string;
}

/** The results of the tests of one file. Tests that were skipped are not counted. */
export interface FileResult {
  readonly passed: number;
  readonly failures: readonly TestFailure[];
}

/** Returns the results by the path of the file, relative to the folder in which the tests ran. */
export function parseTestReport(xml: string): Map<string, FileResult> {
  const results = new Map<string, FileResult>();
  for (const suite of elements(parseXml(xml).root, "testsuite")) {
    let passed = 0;
    const failures: TestFailure[] = [];
    for (const test of elements(suite, "testcase")) {
      const errors = [...elements(test, "failure"), ...elements(test, "error")];
      if (errors.length > 0) {
        // An attribute's line feeds become spaces; the text of the element keeps them.
        const message = errors.map((error) => error.text || error.attributes["message"]).join("\n");
        failures.push({ test: test.attributes["name"]!, message });
      } else if (elements(test, "skipped").length === 0) passed++;
    }
    results.set(suite.attributes["name"]!.replace(/^\.[/\\]/, "").replaceAll("\\", "/"), { passed, failures });
  }
  return results;
}

function elements(parent: XmlElement | null, name: string): XmlElement[] {
  const children = (parent?.children ?? []) as XmlElement[];
  return children.filter((child) => child.type === "element" && child.name === name);
}
