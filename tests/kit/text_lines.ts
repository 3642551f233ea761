/** Bytes to lines of text. */
export class TextLines extends TransformStream<Uint8Array, string> {
  constructor() {
    const decoder = new TextDecoder();
    let text = "";
    super({
      transform(chunk, controller) {
        const lines = (text + decoder.decode(chunk, { stream: true })).split("\n");
        text = lines.pop()!;
        for (const line of lines) controller.enqueue(line);
      },
    });
  }
}
