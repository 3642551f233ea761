/**
 * The few shapes that charts are drawn with, as SVG.
 *
 * @module
 */

/** How a text looks. */
export interface TextStyle {
  readonly fill: string;
  /** In pixels. Default 13. */
  readonly size?: number;
  readonly weight?: number;
  readonly anchor?: "start" | "middle" | "end";
}

/** The fonts the systems' own pages are set in; digits of one width stand in columns. */
const FONT = `font-family="-apple-system, 'Segoe UI', 'Noto Sans', 'Liberation Sans', Helvetica, Arial, sans-serif" ` +
  `style="font-variant-numeric: tabular-nums"`;

/** A picture of the given shapes. */
export function document(
  { width, height, title, description }: { width: number; height: number; title: string; description: string },
  shapes: readonly string[],
): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
    `role="img" ${FONT}>`,
    `<title>${escaped(title)}</title>`,
    `<desc>${escaped(description)}</desc>`,
    ...shapes,
    "</svg>\n",
  ].join("\n");
}

/** A line of text on its baseline. */
export function text(
  x: number,
  y: number,
  content: string,
  { fill, size = 13, weight = 400, anchor = "start" }: TextStyle,
): string {
  return `<text x="${short(x)}" y="${short(y)}" fill="${fill}" font-size="${size}" font-weight="${weight}" ` +
    `text-anchor="${anchor}">${escaped(content)}</text>`;
}

/** A filled rectangle. */
export function box(x: number, y: number, width: number, height: number, { fill }: { fill: string }): string {
  return `<rect x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${height}" rx="2" fill="${fill}"/>`;
}

/** A thin line. */
export function line(x1: number, y1: number, x2: number, y2: number, { stroke }: { stroke: string }): string {
  return `<line x1="${short(x1)}" y1="${short(y1)}" x2="${short(x2)}" y2="${short(y2)}" stroke="${stroke}"/>`;
}

function short(coordinate: number): string {
  return String(Number(coordinate.toFixed(1)));
}

function escaped(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
