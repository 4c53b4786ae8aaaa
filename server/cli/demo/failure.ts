/** A step of the demo did not hold. The message says what was waited for and what was seen. */
export class DemoFailure extends Error {
  override readonly name: string = "DemoFailure";
}

/** Ctrl-C and its kin. */
export class EndedByPerson extends DemoFailure {
  override readonly name = "EndedByPerson";
}
