from typing import Literal, TypedDict

from agentfield import Agent

app = Agent("my-agent")


class Mood(TypedDict):
    mood: Literal["glad", "neutral", "frustrated"]
    why: str


@app.reasoner()
async def greet(name: str) -> dict:
    """Greets somebody by name."""
    app.note(f"{name} came by")
    return {"greeting": f"Hello, {name}!"}


@app.reasoner()
async def read_mood(message: str) -> Mood:
    """Tells the mood of a message, with a language model (the offline one, until a key is set)."""
    return await app.ai(system="You read the mood of customers.", user=message, schema=Mood)


@app.reasoner()
async def refund(customer: str, amount: float) -> dict:
    """Sends money back, after a person has agreed."""
    decision = await app.pause(title=f"Refund {customer}?", payload={"customer": customer, "amount": amount})
    return {"sent": decision.approved, "feedback": decision.feedback}


if __name__ == "__main__":
    app.run()
