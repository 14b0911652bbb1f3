"""Start the page: python app.py"""

from srgui.ui.app import launch

if __name__ == "__main__":
    launch()
