"""The entry of a Hugging Face Space, which runs this file in the root of the repository."""

from demos.app import main

if __name__ == "__main__":
    main()
