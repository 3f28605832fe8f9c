// What goes wrong is told in the page: every error of ours says what, where, expected and found.

export class FormatError extends Error {
  name = "FormatError";
}

export class SourceError extends Error {
  name = "SourceError";
}
