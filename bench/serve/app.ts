// What every server of the benchmark answers.
export default {
  fetch(): Response {
    return new Response("hello world");
  },
};
